"""Packed, prompt-masked supervised fine-tuning in a child process; importing this loads no torch."""

from dartlib.training.config import TRAINING_VERSION, TrainingConfig, TrainingError, TrainingReport
from dartlib.training.data import plan_steps, read_examples
from dartlib.training.launcher import completed_report, train, training_command

__all__ = [
    "TRAINING_VERSION",
    "TrainingConfig",
    "TrainingError",
    "TrainingReport",
    "completed_report",
    "plan_steps",
    "read_examples",
    "train",
    "training_command",
]
