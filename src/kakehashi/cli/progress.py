"""Training seen from outside: a bar at a terminal, a plain line now and then in a pipe."""

from rich.progress import BarColumn, Progress, TextColumn

from kakehashi.cli import console
from kakehashi.texts import t
from kakehashi.training import Callback, State


class Watched(Callback):
    """Shows loss, speed and time left while the loop runs; ends with one line."""

    name = "watched"

    def __init__(self, resuming: bool = False):
        self.resuming = resuming
        self.bar = None

    def on_start(self, state: State) -> None:
        if self.resuming:  # the step is the checkpoint's: the rows of metrics after it are gone
            console.say(t("cli.train.resuming", run=state.run.path, step=state.step, steps=state.settings.steps))
        self.console = console.out()
        if self.console.is_terminal:
            self.console.width -= len("^C")  # what a terminal writes behind the bar must not make it two lines
            self.bar = Progress(TextColumn("{task.description}"), BarColumn(24), console=self.console, transient=True)
            self.task = self.bar.add_task("", total=state.settings.steps, completed=state.step)
            self.bar.start()

    def on_step(self, state: State) -> None:
        # reading the loss waits for the device, so only now and then
        if self.bar and state.step % max(1, state.settings.steps // 200) == 0:
            self.show(state)

    def on_eval(self, state: State) -> None:
        if state.loss is not None:  # before the first step there is none
            self.show(state)

    def show(self, state: State) -> None:
        """The present state in one line. It says of which step the validation loss is, where that is another."""
        val = "-" if state.val_loss is None else f"{state.val_loss:.3f}"
        if state.val_right is not None:
            val = t("cli.train.right", val=val, right=state.val_right)
        if state.evaluated not in (None, state.step):
            val = t("cli.train.earlier", val=val, step=state.evaluated)
        text = t(
            f"cli.train.progress.{state.run.config.task}",
            step=state.step,
            steps=state.settings.steps,
            loss=float(state.loss),
            val=val,
            speed=state.tokens_per_second or 0,
            left=duration(state.seconds_left),
        )
        if self.bar:
            self.bar.update(self.task, completed=state.step, description=console.plain(text))
        else:
            console.say(text)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self.bar:
            self.bar.stop()


def duration(seconds: float | None) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "-"
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return t(f"cli.duration.{'hours' if h else 'minutes' if m else 'seconds'}", h=h, m=m, s=s)
