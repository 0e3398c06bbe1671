"""Packed, prompt-masked supervised fine-tuning in child processes; importing this loads no torch."""

from dartlib.training.config import TRAINING_VERSION, Job, TrainingConfig, TrainingReport
from dartlib.training.data import plan_steps, read_examples
from dartlib.training.launcher import completed_report, train, training_command
from dartlib.training.memory import describe_training, memory_table, model_shape
from dartlib.training.progress import progress_log
from dartlib.training.recipe import Recipe, TrainingError, load_recipe, recipe_names, recipe_path
