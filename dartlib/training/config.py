"""What a training run is asked to do, and what it reports. Nothing here loads torch."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dartlib.engines import ModelError, load_tokenizer, weights_fingerprint
from dartlib.files import sha256_of, text_digest, write_text_atomically
from dartlib.queries import CHAT, get_template
from dartlib.training.recipe import Recipe, TrainingError

TRAINING_VERSION = "1"  # raised by hand when the same rows and settings give another student
CHECKPOINT_FOLDER = "checkpoint"
LOG_FILE = "training_log.jsonl"
REPORT_FILE = "training_report.json"  # inside the checkpoint, so that it appears and disappears with it
PRECISIONS = ("fp32", "bf16")
PACKINGS = ("next-fit", "best-fit")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one fine-tuning run. Defaults are the paper's (appendix A.1) where it names one.

    ``learning_rate`` is the peak: linear warm-up over ``warmup_ratio`` of the steps, then a cosine down to zero
    (paper: 1e-5 to 5e-5 by base model). An optimiser step (AdamW) sees ``packs_per_step`` packs of at most
    ``max_tokens_per_pack`` tokens (paper: 64 of 4096) and its loss is the mean over their supervised tokens; the last
    step of an epoch may be smaller. ``packs_per_forward`` of them go through the model at a time: it trades memory for
    speed and changes results only by rounding. ``seed`` orders the examples, anew in every epoch. Gradients are cut to
    the norm ``max_gradient_norm`` (the paper names none; 1.0 is what its trainer does by default). ``precision``:
    weights and optimiser are always fp32; ``bf16`` computes the matrix products in bf16, as the paper does, and pays
    off only on hardware made for it. ``packing``: ``next-fit`` fills packs in shuffled order, as the paper does;
    ``best-fit`` puts each example, longest first, where it leaves the least room. Raises ValueError naming the field
    that is out of range.
    """

    template: str
    learning_rate: float
    epochs: int
    max_tokens_per_pack: int
    packs_per_step: int
    packs_per_forward: int
    seed: int
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    precision: str = "fp32"
    packing: str = "next-fit"

    def __post_init__(self) -> None:
        if self.template != CHAT:  # that one is the base model's: read_examples looks
            get_template(self.template)
        for name in ("epochs", "max_tokens_per_pack", "packs_per_step", "packs_per_forward"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        for name in ("learning_rate", "max_gradient_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio is {self.warmup_ratio}: give a share of the steps, 0 or more and below 1")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}: give 0 or more")
        for name, choices in (("precision", PRECISIONS), ("packing", PACKINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class TrainingReport:
    """What a finished run did.

    ``rows`` were trained on in every epoch, ``dropped_rows`` were longer than a pack. ``tokens`` and
    ``supervised_tokens`` count all epochs. ``final_loss`` (nats per supervised token) is the mean over the last tenth
    of the steps. ``seconds`` is from the child's start until it saves, of the last sitting if there were several;
    ``tokens_per_second`` counts the steps alone, of all sittings.
    """

    steps: int
    epochs: int
    rows: int
    dropped_rows: int
    tokens: int
    supervised_tokens: int
    final_loss: float
    seconds: float
    tokens_per_second: float
    checkpoint: Path


@dataclass(frozen=True)
class Job:
    """One run: a data set, a folder with the base model, the folder for everything it writes, settings and recipe."""

    dataset: Path
    base_model: Path
    output: Path
    config: TrainingConfig
    recipe: Recipe = Recipe()

    @property
    def checkpoint(self) -> Path:
        """Where the student will be."""
        return self.output / CHECKPOINT_FOLDER

    @property
    def log_file(self) -> Path:
        """One JSON line per optimiser step."""
        return self.output / LOG_FILE

    def digest(self) -> str:
        """Identifies what is trained: data, settings, prompt, base weights, LoRA. Another digest, another student.

        How many processes share the work is not part of it. Raises TrainingError when a file is not there.
        """
        if not self.dataset.is_file():
            raise TrainingError(f"{self.dataset}: no such data set; run the synthesis first")
        if not (self.base_model / "config.json").is_file():
            raise TrainingError(
                f"{self.base_model}: no config.json here; give a folder with a model in safetensors format"
            )
        try:
            weights = weights_fingerprint(self.base_model)
        except ModelError as error:
            raise TrainingError(str(error)) from None
        lora = f"lora {self.recipe.lora_rank} {self.recipe.lora_alpha}" if self.recipe.lora_rank else "all weights"
        settings = json.dumps(asdict(self.config), sort_keys=True)
        template = get_template(self.config.template, lambda: load_tokenizer(str(self.base_model)))
        parts = [settings, template.fingerprint, weights, lora, sha256_of(self.dataset)]
        return text_digest("\n".join(parts))


def write_report(checkpoint: Path, report: TrainingReport, job: str) -> None:
    """Store a report, with the digest of its job, in a checkpoint folder that is not yet in its place."""
    values = {field.name: getattr(report, field.name) for field in fields(report) if field.name != "checkpoint"}
    write_text_atomically(checkpoint / REPORT_FILE, json.dumps({"job": job, **values}, indent=2) + "\n")


def read_report(output: Path, job: str) -> TrainingReport | None:
    """The report of a finished run of this very job in ``output``, or None."""
    checkpoint = output / CHECKPOINT_FOLDER
    try:
        values = json.loads((checkpoint / REPORT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if values.pop("job") != job:
        return None
    return TrainingReport(**values, checkpoint=checkpoint)
