"""The model that is trained: loading, LoRA, and the student's folder. transformers and peft are met here."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from dartlib.files import sync_folder
from dartlib.training.config import Job
from dartlib.training.recipe import TrainingError


def load_model(job: Job) -> tuple[PreTrainedModel, torch.dtype]:
    """The model as it is trained, still on the CPU, and the type its weights are stored in.

    In bf16 an AdamW step at 1e-5 rounds away for 98 % of the weights: the weights that are trained are fp32. Those
    that LoRA leaves as they are stay in their own type when the arithmetic is bf16 anyway.
    """
    recipe = job.recipe
    stored = AutoConfig.from_pretrained(job.base_model, trust_remote_code=False).dtype or torch.float32
    if recipe.attention.startswith("flash") and job.config.precision != "bf16":
        raise TrainingError(f"attention {recipe.attention}: computes in bf16 only, set PRECISION to bf16")
    frozen_in_bf16 = recipe.lora_rank and job.config.precision == "bf16"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            job.base_model,
            dtype=stored if frozen_in_bf16 else torch.float32,
            attn_implementation=recipe.attention,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (ImportError, ValueError) as error:  # flash attention without its package, or a model without it
        raise TrainingError(f"attention {recipe.attention}: {' '.join(str(error).split())}") from None
    if recipe.lora_rank:
        _add_lora(model, recipe.lora_rank, recipe.lora_alpha, job.config.seed)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    return model, stored


def check_window(model: PreTrainedModel, longest: int) -> None:
    """Raise TrainingError when an example of ``longest`` tokens is longer than the model's attention window.

    The mask that keeps examples apart replaces the model's own, and a window is as long as a pack in it.
    """
    window = getattr(model.config, "sliding_window", None)
    if window and getattr(model.config, "use_sliding_window", True) and longest > window:
        raise TrainingError(
            f"a row of {longest} tokens exceeds the model's window: set max_tokens_per_pack to {window}"
        )


def _add_lora(model: PreTrainedModel, rank: int, alpha: int, seed: int) -> None:
    """Adapters in fp32 at every linear layer but the vocabulary's, put into the model itself; all else is frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    inject_adapter_in_model(settings, model)
    for name, weights in model.named_parameters():
        weights.requires_grad_("lora_" in name)
        if weights.requires_grad:
            weights.data = weights.data.float()


def merge_lora(model: PreTrainedModel, whole: Callable[[torch.nn.Module], AbstractContextManager[object]]) -> None:
    """Add the adapters to the weights they belong to; within ``whole(layer)`` all of a layer is in this process."""
    from peft.tuners.lora import LoraLayer

    for layer in [module for module in model.modules() if isinstance(module, LoraLayer)]:
        with whole(layer):
            layer.merge()


@contextmanager
def appears_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``folder`` when the block ends well: complete, on the disk, or absent."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    yield temporary
    for path in temporary.rglob("*"):
        if path.is_file():
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())
    os.rename(temporary, folder)
    sync_folder(folder.parent)


def save_student(
    model: PreTrainedModel,
    weights: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Safetensors, tokenizer and generation settings, for transformers and vLLM.

    The weights get the names that they had before LoRA. A padding token that is also an end token is taken out of the
    generation settings: some readers then drop or mask the end of every response, or stop at once.
    """
    dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
    with torch.device("meta"):  # the trained one may be in parts, in another type, and full of adapters
        student = type(model)._from_config(model.config, dtype=dtype)
    student.generation_config = settings = model.generation_config
    if settings is not None:
        ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
        if settings.pad_token_id in ends:
            settings.pad_token_id = None
    plain = {name.replace(".base_layer", ""): value for name, value in weights.items() if "lora_" not in name}
    student.save_pretrained(folder, state_dict=plain)
    tokenizer.save_pretrained(folder)
