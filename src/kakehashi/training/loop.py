"""Training: one loop, to be read from top to bottom.

What a step does follows from the weights, the engine's arrays (optimizer, random numbers, the state carried along)
and (step, seed). A checkpoint holds them, so a run that was killed at any moment and resumed ends with the bits of one
that never was.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from kakehashi import Mistake
from kakehashi.data import Batch, Batches
from kakehashi.runs import Checkpoint, Run, RunConfig, badness
from kakehashi.training import tasks
from kakehashi.training.numpy_engine import NumpyEngine
from kakehashi.training.plan import open_sources
from kakehashi.training.settings import TrainingError, TrainSettings
from kakehashi.training.state import Interrupted, State, stop_on_ctrl_c, tell
from kakehashi.training.torch_engine import TorchEngine


def train(
    config: RunConfig, run: Run, callbacks: Sequence[Any] = (), *, sources: tuple[Batches, Batches] | None = None
) -> Run:
    """Train the run's model to the end of its steps, from its newest whole checkpoint where it has one.

    callbacks: see `Callback`. sources: (train, validation) where they are at hand; else they are opened as config says.
    Raises Interrupted, a KeyboardInterrupt, after Ctrl-C: the run is saved and can be resumed. RunBusy where another
    process trains it. TrainingError where the loss is no number any more. Any Mistake leaves the checkpoints whole.
    """
    settings = TrainSettings.of(config.train)
    train_source, val_source = sources or open_sources(config, run.codec)
    if settings.engine == "numpy":
        engine = NumpyEngine()
    else:
        engine = TorchEngine(settings.device, settings.dtype, config.threads)
    with run.lock():
        with their_code(run):
            state = begin(config, run, settings, engine)
        with stop_on_ctrl_c(state), saying_what_is_kept(state):
            try:
                with their_code(run):
                    loop(state, train_source, val_source, config.seed, callbacks)
            except Interrupted:
                if state.step not in (0, state.saved):  # at 0 there is nothing to lose
                    save(state, provisional=True)
                raise
    return run


def their_code(run: Run, backward: bool = False) -> AbstractContextManager[None]:
    """What a learner's model raises becomes one line; a bug of ours stays a traceback.

    An error of a forward pass comes through their file. In backward the engine alone runs, over the graph that the
    model has made: there it is theirs whenever the model is.
    """
    theirs = backward and run.source is not None
    return run.learners_code(theirs, "; `kakehashi grade` checks your code piece by piece")


@contextmanager
def saying_what_is_kept(state: State) -> Iterator[None]:
    """A Mistake inside, such as a full disk, also says from where the run can go on."""
    try:
        yield
    except Mistake as mistake:
        checkpoint = state.run.load_checkpoint()
        kept = f"the checkpoint of step {checkpoint.state['step']}" if checkpoint else "no checkpoint"
        raise TrainingError(f"{mistake}; {state.run.path} keeps {kept}") from mistake


def begin(config: RunConfig, run: Run, settings: TrainSettings, engine: Any) -> State:
    """Everything as it was at the newest checkpoint, or as the seed and the run's first weights say."""
    checkpoint = run.rewind()
    model = engine.build(run.family, run.model_config, config.seed)
    optimizer = engine.optimizer(model, settings)
    state = State(run=run, settings=settings, engine=engine, model=model, optimizer=optimizer)
    if checkpoint is not None:
        engine.load_weights(model, checkpoint.weights)
        engine.load_arrays(optimizer, checkpoint.optimizer)
        state.carried = engine.load_carried(model, settings.batch_size, checkpoint.optimizer)
        state.restore(checkpoint.state)
        state.saved = None if checkpoint.provisional else state.step
    elif config.started_from:
        engine.load_weights(model, run.load_best())
    return state


def loop(state: State, train_source: Batches, val_source: Batches, seed: int, callbacks: Sequence[Any] = ()) -> None:
    """Evaluate, save, step; again until all steps are done."""
    run, settings, engine, model, optimizer = state.run, state.settings, state.engine, state.model, state.optimizer
    right = tasks.right(run)
    state.start_clock()
    tell(callbacks, "on_start", state)
    while True:
        if due(state.step, settings.eval_every, settings.steps) and state.evaluated != state.step:
            measured = measure(model, val_source, engine, settings.batch_size, right, state.check_stop)
            state.val_loss, state.val_right = measured
            state.evaluated = state.step
            require_finite(state, "the validation loss", state.val_loss)
            # of evaluations that are equally good the last one's weights are kept
            bad = badness(run.config.task, *measured)
            if state.best is None or bad <= state.best:
                state.best = bad
                run.save_best(engine.weights(model))
            share = {} if right is None else {"right": state.val_right}
            run.append(row(state, "val", state.val_loss) | share | tell(callbacks, "on_eval", state))
        if due(state.step, settings.checkpoint_every, settings.steps) and state.saved != state.step:
            save(state)
        if state.step == settings.steps:
            break

        # The data, and the learning rate, of this step
        began = time.perf_counter()
        first = state.step * settings.accumulate
        batches = [train_source.batch(first + i, settings.batch_size, seed) for i in range(settings.accumulate)]
        n_targets = sum(batch.n_targets for batch in batches)
        state.lr = settings.lr_of(state.step)
        for group in optimizer.param_groups:
            group["lr"] = state.lr * group.get("share", 1.0)

        # Forward and backward. Each batch's loss is the mean over its own targets: weighted by their number, the
        # losses and gradients of small batches add up to those of one large batch
        state.loss = 0.0
        for batch in map(engine.tensors, batches):
            with engine.autocast():
                output, state.carried = read(model, batch, state.carried)
                loss = output.loss * (batch.n_targets / max(1, n_targets))
                del output  # its logits are large, and backward does not need them
            with their_code(run, backward=True):
                engine.backward(loss)
            state.loss = state.loss + loss.detach()
            state.batch = batch
        engine.unscale(optimizer)
        state.note(tell(callbacks, "on_backward", state))

        # The update
        state.grad_norm = engine.clip_grad_norm_(optimizer, settings.clip)
        engine.step(optimizer)
        state.step += 1
        state.tokens += n_targets
        state.loss_sum = state.loss_sum + state.loss
        state.loss_count += 1
        state.training_seconds += time.perf_counter() - began
        state.note(tell(callbacks, "on_step", state))
        optimizer.zero_grad()

        if due(state.step, settings.log_every, settings.steps):
            mean = float(state.loss_sum) / state.loss_count  # here the host waits for the device
            require_finite(state, f"the loss of the last {state.loss_count} steps", mean)
            run.append(row(state, "train", mean, state.lr, float(state.grad_norm)) | state.notes)
            state.loss_sum, state.loss_count, state.notes = 0.0, 0, {}
        state.check_stop()
    tell(callbacks, "on_end", state)


def read(model: Any, batch: Batch, carried: Any) -> tuple[Any, Any]:
    """(logits and mean loss of a batch, the state it leaves). One that follows another is read from `carried`, what
    that one left.

    The model leaves values without a history, so backpropagation ends where a window does.
    """
    if batch.follows is None:
        return model(*batch.inputs, batch.targets, **batch.options), None
    carried = carried if batch.follows else model.new_state(len(batch.targets))
    return model(*batch.inputs, batch.targets, state=carried, **batch.options), carried


class Measured(NamedTuple):
    """loss: the mean over every target, in nats. right: the share of items whose answer is wholly right, or None."""

    loss: float
    right: float | None = None


def evaluate(model: Any, source: Batches, engine: Any, batch_size: int = 64) -> float:
    """The mean loss over every target of the source, in nats. The model is in eval mode meanwhile."""
    return measure(model, source, engine, batch_size).loss


def measure(
    model: Any,
    source: Batches,
    engine: Any,
    batch_size: int = 64,
    right: Callable[[Any, Any], Any] | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Measured:
    """Loss and, with a task's `right`, the share that is right, over the whole source, the model in eval mode.

    In Lanes the state is carried, as in training. Each lane begins without memory, so more of them cost a little.
    """
    was_training = model.training
    model.eval()
    try:
        total, n_targets, carried = 0.0, 0, None
        n_right, n_items = 0, 0
        with engine.no_grad(), engine.autocast():
            for batch in source.whole(batch_size):
                check_stop()
                batch = engine.tensors(batch)
                output, carried = read(model, batch, carried)
                total += float(output.loss) * batch.n_targets
                n_targets += batch.n_targets
                if right is not None:
                    answers = right(output.logits, batch.targets)  # (B,) bool
                    n_right += int(answers.sum())
                    n_items += len(answers)
        return Measured(total / max(1, n_targets), n_right / max(1, n_items) if right else None)
    finally:
        model.train(was_training)


def save(state: State, provisional: bool = False) -> None:
    """Write a checkpoint, unless the weights are spoilt: the one before is then the one to go on from."""
    weights = state.engine.weights(state.model)
    for name, array in weights.items():
        require_finite(state, f"the parameter {name}", array)
    arrays = state.engine.arrays(state.optimizer, state.carried)
    state.run.save_checkpoint(Checkpoint(state.to_dict(), weights, arrays, provisional))
    if not provisional:
        state.saved = state.step


def due(step: int, every: int, steps: int) -> bool:
    """At the start, every so many steps, and at the end."""
    return step % every == 0 or step == steps


def row(
    state: State, split: str, loss: float, lr: float | None = None, grad_norm: float | None = None
) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    return {
        "step": state.step,
        "time": state.seconds,
        "tokens": state.tokens,
        "split": split,
        "loss": loss,
        "lr": lr,
        "grad_norm": grad_norm,
    }


def require_finite(state: State, what: str, value: Any) -> None:
    """Raises TrainingError where a value is infinite or not a number."""
    if not np.isfinite(value).all():
        rate = "" if state.lr is None else f" with lr {state.lr:g}"
        advice = "try a lower lr, or look for a fault in the model"
        raise TrainingError(f"{what} is not finite after step {state.step}{rate}: {advice}")
