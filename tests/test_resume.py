"""A run that was stopped at any moment, by a kill, by Ctrl-C or by its disk, ends with the bits of one that was not."""

import builtins
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from kakehashi import Mistake, runs, training
from kakehashi.runs import Run
from kakehashi.training import Callback, Interrupted

TEXT = "the quick brown fox jumps over the lazy dog and runs away from it into the dark wood\n" * 8
MOMENTS = ("before", "within", "after")
both_engines = pytest.mark.parametrize("engine", ["torch", "numpy"], scope="module")


@pytest.fixture(scope="module")
def engine():
    return "torch"


@pytest.fixture(scope="module")
def plan(engine, tmp_path_factory):
    """A model with dropout, batch statistics in buffers and tied weights would be slow; these two have all but one."""
    text = tmp_path_factory.mktemp("data") / "fox.txt"
    text.write_text(TEXT, encoding="utf-8")
    settings = {"steps": 9, "batch_size": 4, "eval_every": 3, "checkpoint_every": 3, "log_every": 2, "lr": 0.05}
    return training.plan("mlp", text, engine=engine, **settings)


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory):
    """What the run leaves when nothing stops it."""
    return left_by(finish(plan, plan.create(tmp_path_factory.mktemp("whole"))))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What was written outlives the process without it; only a machine that loses its power needs fsync."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def finish(plan, run: Run, callbacks=()) -> Run:
    training.train(plan.config, run, callbacks, sources=plan.sources)
    run.write_samples("the samples of a finished run")
    return run


def left_by(run: Run) -> dict:
    """All that must be the same to the bit."""
    files = [run.path / "model.safetensors", run.path / "samples.md", *sorted(run.path.glob("checkpoint/**/*"))]
    rows = [{key: value for key, value in row.items() if key != "time"} for row in run.metrics()]
    return {"rows": rows} | {str(path.relative_to(run.path)): path.read_bytes() for path in files if path.is_file()}


class FaultyDisk:
    """Counts what is done to files in a folder: opened, written, synced, renamed, removed, cut, made.

    The operation number `at` fails with `error`, or ends the process where there is none: before it is done, after it,
    or, of a write, when half of it is done.
    """

    def __init__(self, folder: Path, at: int | None = None, moment: str = "before", error: int | None = None):
        self.folder, self.at, self.moment, self.error = str(folder), at, moment, error
        self.count = 0
        self.inside: dict[int, bool] = {}  # file descriptors
        self.originals = {
            (os, "open"): os.open,
            (os, "replace"): os.replace,
            (os, "unlink"): os.unlink,
            (os, "mkdir"): os.mkdir,
            (os, "truncate"): os.truncate,
            (os, "fsync"): os.fsync,
            (builtins, "open"): builtins.open,
        }

    def __enter__(self):
        for (module, name), original in self.originals.items():
            setattr(module, name, self.watched(original))
        return self

    def __exit__(self, *_):
        for (module, name), original in self.originals.items():
            setattr(module, name, original)

    def concerns(self, target) -> bool:
        return self.inside.get(target, False) if isinstance(target, int) else self.folder in os.fspath(target)

    def watched(self, original):
        def operation(target, *args, **kwargs):
            if not self.concerns(target):
                return original(target, *args, **kwargs)
            result = self.do(lambda: original(target, *args, **kwargs))
            if isinstance(result, int):
                self.inside[result] = True
            return WatchedFile(result, self) if hasattr(result, "write") else result

        return operation

    def do(self, operation, half=lambda: None):
        hit = self.count == self.at
        self.count += 1
        if hit and self.moment != "after":
            if self.moment == "within":
                half()
            self.strike()
        try:
            return operation()
        finally:
            if hit:
                self.strike()

    def strike(self):
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.error, os.strerror(self.error))


class WatchedFile:
    def __init__(self, file, disk: FaultyDisk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        def half():
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        self.disk.do(lambda: self.file.write(content), half)


def operations(plan, folder: Path) -> int:
    """How many there are in a whole run."""
    run = plan.create(folder)
    with FaultyDisk(run.path) as disk:
        finish(plan, run)
    return disk.count


def killed_at(plan, run: Run, at: int, moment: str) -> bool:
    """Train in a process of its own that dies at that operation. False: it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            with FaultyDisk(run.path, at, moment):
                finish(plan, Run.open(run.path))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def needs_fork():
    if not hasattr(os, "fork"):
        pytest.skip("only where processes can be forked")


@both_engines
def test_two_runs_of_one_plan_leave_the_same_bits(plan, whole, tmp_path):
    assert left_by(finish(plan, plan.create(tmp_path))) == whole


@both_engines
def test_a_finished_run_is_left_as_it_is(plan, whole, tmp_path):
    run = finish(plan, plan.create(tmp_path))
    assert left_by(finish(plan, Run.open(run.path))) == whole


def test_killed_at_any_file_operation_it_ends_the_same(plan, whole, tmp_path):
    needs_fork()
    total = operations(plan, tmp_path)
    assert total > 100
    for at in range(1, total, 4):  # the slow test below: all of them
        run = plan.create(tmp_path)
        assert killed_at(plan, run, at, MOMENTS[at // 4 % 3])
        assert left_by(finish(plan, Run.open(run.path))) == whole, f"killed at operation {at}"


@both_engines
@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_before_within_and_after_every_file_operation_it_ends_the_same(plan, whole, tmp_path, moment):
    needs_fork()
    for at in range(operations(plan, tmp_path)):
        run = plan.create(tmp_path)
        assert killed_at(plan, run, at, moment)
        assert left_by(finish(plan, Run.open(run.path))) == whole, f"killed {moment} operation {at}"


@both_engines
@pytest.mark.slow
def test_killed_again_and_again_it_ends_the_same(plan, whole, tmp_path):
    needs_fork()
    rng = random.Random(0)
    for _ in range(20):
        run = plan.create(tmp_path)
        while killed_at(plan, run, rng.randrange(60, 200), rng.choice(MOMENTS)):
            pass
        assert left_by(finish(plan, Run.open(run.path))) == whole


def disk_fails(plan, whole, folder: Path, at: int, moment: str, error: int) -> bool:
    """One line says so, the run can be resumed, and ends the same. False: nobody minded."""
    run = plan.create(folder)
    message = ""
    with FaultyDisk(run.path, at, moment, error):
        try:
            finish(plan, run)
        except Mistake as mistake:
            message = str(mistake)
            assert os.strerror(error) in message and "\n" not in message
    if "keeps" in message:  # all but where the run could not be locked, or the samples not be written
        checkpoint = run.load_checkpoint()
        assert message.endswith(f"the checkpoint of step {checkpoint.state['step']}" if checkpoint else "no checkpoint")
    if message:
        finish(plan, Run.open(run.path))
    assert left_by(run) == whole, f"{message} at operation {at}"
    return bool(message)


def test_a_disk_that_fails_costs_no_bit(plan, whole, tmp_path):
    total = operations(plan, tmp_path)
    errors = (errno.ENOSPC, errno.EROFS, errno.EIO)
    some = range(2, total, 7)  # the slow test below: all of them
    noticed = [disk_fails(plan, whole, tmp_path, at, MOMENTS[at // 7 % 3], errors[at % 3]) for at in some]
    assert sum(noticed) > 0.9 * len(some)


@both_engines
@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_anywhere_costs_no_bit(plan, whole, tmp_path, error):
    total = operations(plan, tmp_path)
    noticed = [disk_fails(plan, whole, tmp_path, at, MOMENTS[at % 3], error) for at in range(total)]
    assert sum(noticed) > 0.9 * total


class PressesCtrlC(Callback):
    """As a person does, in the middle of a step or right after it."""

    def __init__(self, step: int, event: str):
        self.step = step
        setattr(self, event, self.press)

    def press(self, state):
        if state.step == self.step:
            signal.raise_signal(signal.SIGINT)


@both_engines
@pytest.mark.parametrize("event", ["on_backward", "on_step", "on_eval"])
def test_ctrl_c_saves_and_the_resumed_run_ends_the_same(plan, whole, tmp_path, event):
    for step in range(9):
        run = plan.create(tmp_path)
        with pytest.raises(Interrupted) as caught:
            finish(plan, run, [PressesCtrlC(step - step % 3 if event == "on_eval" else step or 1, event)])
        assert caught.value.run is run and str(run.path) in str(caught.value)
        assert run.load_checkpoint().state["step"] == caught.value.step
        assert left_by(finish(plan, Run.open(run.path))) == whole, f"Ctrl-C at step {step}"


@pytest.mark.parametrize("step", [0, 6])
def test_ctrl_c_during_evaluation_does_not_wait_for_its_end(plan, whole, tmp_path, step):
    train_source, val_source = plan.sources

    class Slow:
        evaluations = 0

        def whole(self, batch_size):
            if self.evaluations == step // plan.config.train["eval_every"]:
                signal.raise_signal(signal.SIGINT)
            self.evaluations += 1
            yield from val_source.whole(batch_size)

    run = plan.create(tmp_path)
    with pytest.raises(Interrupted) as caught:
        training.train(plan.config, run, sources=(train_source, Slow()))
    assert caught.value.step == step
    assert [row["step"] for row in run.metrics() if row["split"] == "val"] == list(range(0, step, 3))
    assert left_by(finish(plan, Run.open(run.path))) == whole


@both_engines
def test_ctrl_c_at_every_step_and_a_kill_end_the_same(plan, whole, tmp_path):
    run = plan.create(tmp_path)
    for step in range(1, 8):
        with pytest.raises(Interrupted):
            finish(plan, Run.open(run.path), [PressesCtrlC(step, "on_step")])
        if hasattr(os, "fork"):
            assert killed_at(plan, run, 45 + step, "within")
    assert left_by(finish(plan, Run.open(run.path))) == whole


def test_a_second_ctrl_c_stops_at_once(plan, whole, tmp_path):
    class Impatient(Callback):
        def on_backward(self, state):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = plan.create(tmp_path)
    with pytest.raises(KeyboardInterrupt) as caught:
        finish(plan, run, [Impatient()])
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is before
    assert left_by(finish(plan, Run.open(run.path))) == whole


def test_a_callback_can_stop_a_run_outside_the_main_thread(plan, whole, tmp_path):
    class Stops(Callback):
        def on_step(self, state):
            state.stop = state.step == 4

    run = plan.create(tmp_path)
    caught = []

    def work():
        try:
            finish(plan, run, [Stops()])
        except Interrupted as interrupted:
            caught.append(interrupted.step)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == [4]
    assert left_by(finish(plan, Run.open(run.path))) == whole


@pytest.mark.parametrize(
    ("name", "dtype", "engine"),
    [("lstm-char", "float32", "torch"), ("rnn-char", "bfloat16", "torch"), ("lstm-char", "float32", "numpy")],
)
def test_a_carried_state_goes_on_where_it_was_left(tmp_path, name, dtype, engine, monkeypatch):
    presets = runs.resolve(name).family.presets
    monkeypatch.setitem(presets, name, replace(presets[name], n_layers=2, n_embd=4, n_hidden=6))
    text = tmp_path / "fox.txt"
    text.write_text(TEXT, encoding="utf-8")
    settings = {"steps": 9, "batch_size": 3, "accumulate": 2, "eval_every": 3, "checkpoint_every": 4, "log_every": 2}
    plan = training.plan(name, text, carry=True, window=6, dtype=dtype, engine=engine, lr=0.05, **settings)
    whole = left_by(finish(plan, plan.create(tmp_path)))
    for step in (1, 4, 6):
        run = plan.create(tmp_path)
        with pytest.raises(Interrupted):
            finish(plan, run, [PressesCtrlC(step, "on_step")])
        assert any(name.startswith("carried.") for name in run.load_checkpoint().optimizer)
        training.train(run.config, Run.open(run.path))
        run.write_samples("the samples of a finished run")
        assert left_by(run) == whole, f"Ctrl-C at step {step}"
    for at in range(31, operations(plan, tmp_path), 41) if hasattr(os, "fork") else ():
        run = plan.create(tmp_path)
        assert killed_at(plan, run, at, MOMENTS[at % 3])
        assert left_by(finish(plan, Run.open(run.path))) == whole, f"killed at operation {at}"


@both_engines
def test_muon_and_its_adamw_go_on_where_they_were_left(engine, tmp_path, monkeypatch):
    presets = runs.resolve("gpt2").family.presets
    monkeypatch.setitem(presets, "gpt2-pico", replace(presets["gpt2-pico"], block_size=6, n_heads=2, n_embd=8))
    text = tmp_path / "fox.txt"
    text.write_text(TEXT, encoding="utf-8")
    settings = {"steps": 6, "batch_size": 3, "eval_every": 6, "checkpoint_every": 4, "log_every": 2}
    plan = training.plan("gpt2", text, preset="gpt2-pico", optimizer="muon", engine=engine, **settings)
    whole = left_by(finish(plan, plan.create(tmp_path)))
    for step in (2, 5):
        run = plan.create(tmp_path)
        with pytest.raises(Interrupted):
            finish(plan, run, [PressesCtrlC(step, "on_step")])
        training.train(run.config, Run.open(run.path))
        run.write_samples("the samples of a finished run")
        assert left_by(run) == whole, f"Ctrl-C at step {step}"


PROGRAM = """
import sys
from kakehashi import training
from kakehashi.runs import Run
run = Run.open(sys.argv[1])
print("ready", flush=True)
training.train(run.config, run)
run.write_samples("the samples of a finished run")
"""


def killed_in(run: Run, seconds: float) -> bool:
    """Train in a process started from nothing, and kill it that long after it has opened the run."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(run.path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    process.stdout.close()
    return process.wait() != 0


def test_a_process_that_is_killed_leaves_a_run_that_another_finishes(plan, whole, tmp_path):
    run = plan.create(tmp_path)
    killed_in(run, 0.03)
    subprocess.run([sys.executable, "-c", PROGRAM, str(run.path)], check=True)
    assert left_by(run) == whole


@both_engines
@pytest.mark.slow
def test_processes_killed_at_random_moments_leave_a_run_that_ends_the_same(plan, whole, tmp_path):
    rng = random.Random(0)
    for _ in range(3):
        run = plan.create(tmp_path)
        patience = 0.1  # grows, so that each session gets further in the end, however slow the machine
        while killed_in(run, rng.uniform(0, patience)):
            patience *= 1.5
        assert left_by(run) == whole
