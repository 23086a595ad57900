"""A run's curves as event files, which TensorBoard reads. The one room that needs the package tensorboard."""

import shutil
import tempfile
from pathlib import Path

from kakehashi import Mistake
from kakehashi.inspection.story import Story

SUFFIX = ".kakehashi"  # ends the names of our files, so that only these are replaced


class NoTensorBoard(Mistake):
    """The package is not installed, or a folder cannot be written: one line."""


def write(folder: str | Path, story: Story) -> Path:
    """Write folder/RUN/events.out.tfevents...kakehashi, in place of what stands there of this run; returns folder/RUN.

    Tags: loss/train, loss/val, right/val, lr, grad_norm, health/gradient/LAYER, .../update, scale, dead, saturated. A
    point's time is the run's own, in seconds since its start. What is null has no point. Raises NoTensorBoard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise NoTensorBoard(
            "--tensorboard needs the package tensorboard: pip install 'kakehashi[tensorboard]'"
        ) from None
    target = Path(folder) / story.name
    with tempfile.TemporaryDirectory() as temporary:
        with SummaryWriter(temporary, filename_suffix=SUFFIX) as writer:
            for tag, points in story.scalars().items():
                for step, time, value in points:
                    writer.add_scalar(tag, value, step, walltime=time)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for old in target.glob(f"events.out.tfevents.*{SUFFIX}"):
                old.unlink()
            for new in Path(temporary).iterdir():
                shutil.move(new, target / new.name)
        except OSError as error:
            raise NoTensorBoard(f"cannot write {target}: {error.strerror or error}: choose another folder") from error
    return target
