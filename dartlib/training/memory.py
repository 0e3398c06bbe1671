"""What a run needs before it starts: memory per process by ZeRO stage, steps, schedule. Plain numbers, no torch.

Counted: weights, gradients and AdamW's two moments in fp32, DeepSpeed's own fp32 share of the weights, what the layers
of a decoder (attention, gated MLP, two norms) keep for backward, the mask, and one chunk of logits. Not counted: the
allocator's fragments, the libraries themselves, communication buffers.
"""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dartlib.training.config import Job, TrainingConfig
from dartlib.training.recipe import Recipe, TrainingError

_CHUNK_BUFFERS, _CHUNK_TOKENS = 3, 512  # logits, their softmax, their gradient; see loss.CHUNK_TOKENS
_PARTS = ("weights", "gradients", "optimiser", "activations")
_FILL = 0.9  # of a pack, by next-fit at 4,096 tokens (best-fit: .99)


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder; ``kv_width`` is its key-value heads times their size, ``tied`` shares the embedding."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    heads: int
    q_width: int
    kv_width: int
    tied: bool = False

    @property
    def layer_parameters(self) -> int:
        """Of one layer: four attention matrices, three of the MLP, two norms."""
        attention = self.hidden * (2 * self.q_width + 2 * self.kv_width)
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model (biases, where a family has some, are left out: less than .1 %)."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * self.layer_parameters + self.hidden

    def lora_parameters(self, rank: int) -> int:
        """Of adapters at the seven matrices of every layer."""
        widths = 2 * (self.hidden + self.q_width) + 2 * (self.hidden + self.kv_width)
        return self.layers * rank * (widths + 3 * (self.hidden + self.intermediate))


# The paper's base models, so that a plan can be made before anything is downloaded
PAPER_MODELS = {
    "mistralai/Mistral-7B-v0.1": ModelShape(4096, 32, 14336, 32000, 32, 4096, 1024),
    "deepseek-ai/deepseek-math-7b-base": ModelShape(4096, 30, 11008, 102400, 32, 4096, 4096),
    "meta-llama/Meta-Llama-3-8B": ModelShape(4096, 32, 14336, 128256, 32, 4096, 1024),
    "meta-llama/Meta-Llama-3-70B": ModelShape(8192, 80, 28672, 128256, 64, 8192, 1024),
}


def model_shape(base_model: str | Path) -> ModelShape:
    """The shape of one of the paper's models by its Hub id, or of a folder with a config.json. Raises TrainingError."""
    if str(base_model) in PAPER_MODELS:
        return PAPER_MODELS[str(base_model)]
    path = Path(base_model) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        heads = values["num_attention_heads"]
        width = values.get("head_dim") or values["hidden_size"] // heads
        return ModelShape(
            hidden=values["hidden_size"],
            layers=values["num_hidden_layers"],
            intermediate=values["intermediate_size"],
            vocabulary=values["vocab_size"],
            heads=heads,
            q_width=heads * width,
            kv_width=(values.get("num_key_value_heads") or heads) * width,
            tied=values.get("tie_word_embeddings", False),
        )
    except OSError:
        raise TrainingError(f"{path}: not there, so the model's size is unknown") from None
    except KeyError as error:
        raise TrainingError(f"{path}: has no {error}: not a decoder whose memory can be told") from None


def memory_per_process(shape: ModelShape, config: TrainingConfig, recipe: Recipe) -> dict[str, float]:
    """Bytes of one process, on its GPU or its share of the machine, by part and in ``total``."""
    shares = recipe.world
    trained = shape.lora_parameters(recipe.lora_rank) if recipe.lora_rank else shape.parameters
    frozen = shape.parameters if recipe.lora_rank else 0
    all_weights = 4.0 * trained + frozen * (2 if config.precision == "bf16" else 4)
    weights, gradients, optimiser = all_weights, 4.0 * trained, 8.0 * trained
    if recipe.zero_stage:
        optimiser = 12.0 * trained / shares  # two moments and the share of the weights that is updated
    if recipe.zero_stage >= 2:
        gradients /= shares
    if recipe.zero_stage == 3:
        gathered = max(shape.layer_parameters, shape.vocabulary * shape.hidden)
        weights = (0.0 if recipe.offload else all_weights / shares) + 2 * 4.0 * gathered  # one in use, one on its way
    if recipe.offload:
        optimiser = 0.0
    parts = (weights, gradients, optimiser, activation_bytes(shape, config, recipe))
    return {**dict(zip(_PARTS, parts, strict=True)), "total": sum(parts)}


def activation_bytes(shape: ModelShape, config: TrainingConfig, recipe: Recipe) -> float:
    """What one forward pass of full packs keeps for backward, with the logits of a chunk and the head's gradient."""
    tokens = config.packs_per_forward * config.max_tokens_per_pack
    low = 2 if config.precision == "bf16" else 4
    # Per token: norms in fp32; inputs of products, q and the heads' repeated k and v, attention out; four MLP widths
    products = 3 * shape.hidden + 4 * shape.q_width + 2 * shape.kv_width + 4 * shape.intermediate
    layer = tokens * (4.0 * 6 * shape.hidden + low * products)
    square = config.packs_per_forward * config.max_tokens_per_pack**2
    if recipe.attention == "eager":  # it keeps the scores of every head, and in bf16 a copy
        layer += (4.0 if low == 4 else 6.0) * square * shape.heads
    kept = shape.layers * layer
    if recipe.gradient_checkpointing:
        kept = shape.layers * tokens * 4.0 * shape.hidden + layer
    mask = {"sdpa": square, "eager": 4 * square}.get(recipe.attention, 0)
    head = 4.0 * _CHUNK_BUFFERS * min(tokens, _CHUNK_TOKENS) * shape.vocabulary + 8.0 * tokens * shape.hidden
    if not recipe.lora_rank:
        head += 4.0 * shape.vocabulary * shape.hidden
    return kept + mask + head


def memory_table(shape: ModelShape, config: TrainingConfig, recipe: Recipe) -> list[dict[str, Any]]:
    """Rows for a table: gigabytes per process by part, at every ZeRO stage and with offload."""
    choices = [(stage, offload) for stage in (0, 1, 2, 3) for offload in (False, True) if stage or not offload]
    rows = []
    for stage, offload in choices:
        parts = memory_per_process(shape, config, replace(recipe, zero_stage=stage, offload=offload))
        chosen = (stage, offload) == (recipe.zero_stage, recipe.offload)
        rows.append(
            {"zero_stage": stage, "offload": offload, "chosen": chosen}
            | {f"{name}_gb": round(size / 1e9, 3) for name, size in parts.items()}
        )
    return rows


def check_memory(job: Job, available: float, *, gpu: bool) -> None:
    """Raise TrainingError when a process needs more than the ``available`` bytes; it names the settings that fit.

    Without a GPU offload saves nothing: it is the same memory.
    """
    shape, recipe = model_shape(job.base_model), replace(job.recipe, offload=job.recipe.offload and gpu)
    needed = memory_per_process(shape, job.config, recipe)
    if needed["total"] <= available:
        return
    parts = ", ".join(f"{name} {needed[name] / 1e9:.2f}" for name in _PARTS)
    raise TrainingError(
        f"too little memory: each of {job.recipe.world} processes needs {needed['total'] / 1e9:.2f} GB ({parts}), "
        f"{available / 1e9:.2f} GB are there; {_what_fits(shape, job.config, recipe, available, gpu)}"
    )


def _what_fits(shape: ModelShape, config: TrainingConfig, recipe: Recipe, available: float, gpu: bool) -> str:
    """The fewest changes with which it fits, in words."""
    options: dict[str, Mapping[str, Any]] = {
        "gradient_checkpointing: true": {"gradient_checkpointing": True},
        "PACKS_PER_FORWARD = 1": {},
        "zero_stage: 3": {"zero_stage": 3},
        "zero_stage: 3 with offload: true": {"zero_stage": 3, "offload": True},
        "lora_rank: 16": {"lora_rank": 16},
    }
    if not gpu:
        del options["zero_stage: 3 with offload: true"]
    for count in range(1, len(options) + 1):
        for names in itertools.combinations(options, count):
            changed = replace(recipe, **{key: value for name in names for key, value in options[name].items()})
            settings = replace(config, packs_per_forward=1) if "PACKS_PER_FORWARD = 1" in names else config
            if memory_per_process(shape, settings, changed)["total"] <= available:
                return f"it fits with {' and '.join(names)}"
    return "nothing fits here: take more processes with zero_stage: 3, a lower PACK_TOKENS or a smaller model"


def describe_training(shape: ModelShape, config: TrainingConfig, recipe: Recipe, tokens: float) -> list[str]:
    """Lines for a plan: steps, schedule, tokens and memory of a run over ``tokens`` an epoch, prompts included."""
    fill = _FILL if config.packing == "next-fit" else 0.99
    packs = math.ceil(tokens / (fill * config.max_tokens_per_pack))
    steps = config.epochs * math.ceil(packs / config.packs_per_step)
    warmup = math.ceil(config.warmup_ratio * steps)
    per_step = config.packs_per_step * config.max_tokens_per_pack
    lines = [
        f"training: {shape.parameters / 1e9:.2f} B parameters, {tokens * config.epochs:,.0f} tokens in {config.epochs} "
        f"epochs, about {steps:,} steps of {per_step:,} tokens on {recipe.world} processes",
        f"learning rate: to {config.learning_rate:g} in {warmup:,} steps, then a cosine down over {steps - warmup:,}",
    ]
    for row in memory_table(shape, config, recipe):
        label = f"ZeRO-{row['zero_stage']}{' + offload' if row['offload'] else ''}"
        parts = ", ".join(f"{name} {row[f'{name}_gb']:.1f}" for name in _PARTS)
        mark = "  <- recipe" if row["chosen"] else ""
        lines.append(f"  {label:<16}{row['total_gb']:8.1f} GB per process ({parts}){mark}")
    return lines
