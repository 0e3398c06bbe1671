"""Recipes: how a machine trains. One YAML file each, chosen by name or by path; nothing in one changes what is learnt.

(LoRA is the exception: it changes which weights are learnt, and so it is part of a job's digest.)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import yaml

RECIPES = Path(__file__).parent / "recipes"
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


class TrainingError(RuntimeError):
    """Training cannot start or did not finish; the message says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """How one machine, or several, do the work. Raises TrainingError naming the field that is out of range.

    ``processes`` run on each of ``nodes`` machines, one per GPU, or sharing a machine's cores where there is none;
    ``launch`` is what starts the command on every node (``srun --nodes=4 --ntasks=4``; the output folder must be
    one that all nodes see). ``zero_stage`` (DeepSpeed): each process keeps its share only of the optimiser (1), also
    of the gradients (2), also of the weights (3); ``offload`` keeps the optimiser, at stage 3 also the weights, in
    the host's memory. ``gradient_checkpointing`` computes activations twice instead of keeping them. ``attention`` is
    one of transformers' implementations; each is checked to keep packed examples apart before the first step.
    ``lora_rank`` above 0 trains LoRA adapters of every linear layer, scaled by ``lora_alpha`` / rank, and merges them.
    A checkpoint to go on from is kept every ``checkpoint_minutes``, and every ``checkpoint_steps`` if above 0.
    """

    processes: int = 1
    nodes: int = 1
    launch: str = ""
    zero_stage: int = 0
    offload: bool = False
    gradient_checkpointing: bool = False
    attention: str = "sdpa"
    lora_rank: int = 0
    lora_alpha: int = 32
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0

    def __post_init__(self) -> None:
        for name, least in (("processes", 1), ("nodes", 1), ("lora_rank", 0), ("checkpoint_steps", 0)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} is {getattr(self, name)}: give at least {least}")
        for name in ("lora_alpha", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: give a number above 0")
        if self.zero_stage not in (0, 1, 2, 3):
            raise TrainingError(f"zero_stage is {self.zero_stage}: choose one of 0, 1, 2, 3")
        if self.offload and not self.zero_stage:
            raise TrainingError("offload needs zero_stage 1, 2 or 3")
        if self.attention not in ATTENTIONS:
            raise TrainingError(f"attention is {self.attention!r}: choose one of {', '.join(ATTENTIONS)}")

    @property
    def world(self) -> int:
        """All processes on all nodes."""
        return self.processes * self.nodes

    @property
    def distributed(self) -> bool:
        """Whether DeepSpeed does the steps; else plain torch in one process."""
        return self.world > 1 or self.zero_stage > 0


def recipe_names() -> list[str]:
    """The recipes that come with dartlib."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """Where a recipe lies: a YAML file as it is named, any other name among those of dartlib (there or not)."""
    path = Path(name_or_path)
    return path if path.suffix in (".yaml", ".yml") else RECIPES / f"{name_or_path}.yaml"


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by name, or by the path of a YAML file. Raises TrainingError naming the file, the key and the fix."""
    path = recipe_path(name_or_path)
    if path.parent == RECIPES and not path.is_file():
        raise TrainingError(f"no recipe {name_or_path!r}: choose one of {', '.join(recipe_names())}, or a file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such recipe file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: a recipe is a mapping of keys to values")
    kinds = {name: kind.__name__ for name, kind in get_type_hints(Recipe).items()}
    for key, value in values.items():
        if key not in kinds:
            raise TrainingError(f"{path}: unknown key {key!r}: valid are {', '.join(kinds)}")
        if type(value).__name__ not in (kinds[key], "int" if kinds[key] == "float" else kinds[key]):
            raise TrainingError(f"{path}: {key} is {value!r}, expected {kinds[key]}")
    try:
        return Recipe(**values)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None
