"""Training: plan what to do, then run the loop.

plan = training.plan("gpt2", "names", steps=2000)
run = plan.create("runs")                                              # runs/gpt2-names-0001
training.train(plan.config, run, callbacks=[...], sources=plan.sources)
training.train(run.config, run)                                        # goes on where the run was killed
"""

from kakehashi.training import tasks
from kakehashi.training.loop import Measured, evaluate, measure, train
from kakehashi.training.numpy_engine import NumpyEngine
from kakehashi.training.plan import Plan, open_sources, open_split, open_test, plan
from kakehashi.training.settings import TrainingError, TrainSettings
from kakehashi.training.state import Callback, Interrupted, State
from kakehashi.training.torch_engine import TorchEngine

__all__ = [
    "Callback",
    "Interrupted",
    "Measured",
    "NumpyEngine",
    "Plan",
    "State",
    "TorchEngine",
    "TrainSettings",
    "TrainingError",
    "evaluate",
    "measure",
    "open_sources",
    "open_split",
    "open_test",
    "plan",
    "tasks",
    "train",
]
