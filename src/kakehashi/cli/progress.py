"""Training seen from outside: a bar at a terminal, a plain line now and then in a pipe."""

from rich.progress import BarColumn, Progress, TextColumn

from kakehashi.cli import console
from kakehashi.texts import t
from kakehashi.training import Callback, State


class Watched(Callback):
    """Shows loss, speed and time left while the loop runs; ends with one line."""

    name = "watched"

    def on_start(self, state: State) -> None:
        self.console = console.out()
        self.bar = None
        if self.console.is_terminal:
            self.bar = Progress(TextColumn("{task.description}"), BarColumn(24), console=self.console, transient=True)
            self.task = self.bar.add_task("", total=state.settings.steps, completed=state.step)
            self.bar.start()

    def on_step(self, state: State) -> None:
        # reading the loss waits for the device, so only now and then
        every = max(1, state.settings.steps // 200) if self.bar else max(1, state.settings.steps // 10)
        if state.step % every == 0:
            self.show(state, float(state.loss))

    def show(self, state: State, loss: float) -> None:
        """The present state in one line."""
        text = t(
            "cli.train.progress",
            step=state.step,
            steps=state.settings.steps,
            loss=loss,
            val="-" if state.val_loss is None else f"{state.val_loss:.3f}",
            speed=state.tokens_per_second or 0,
            left=duration(state.seconds_left),
        )
        if self.bar:
            self.bar.update(self.task, completed=state.step, description=console.plain(text))
        else:
            console.say(text)

    def close(self) -> None:
        """Take the bar off the screen."""
        if getattr(self, "bar", None):
            self.bar.stop()


def duration(seconds: float | None) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "-"
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return t(f"cli.duration.{'hours' if h else 'minutes' if m else 'seconds'}", h=h, m=m, s=s)
