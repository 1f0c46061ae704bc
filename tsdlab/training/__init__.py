"""Training: `train` runs one config on one data set, and can be stopped at any moment and resumed exactly."""

from tsdlab.training.interrupt import TrainingInterrupted
from tsdlab.training.loop import TrainResult, train

__all__ = ["TrainResult", "TrainingInterrupted", "train"]
