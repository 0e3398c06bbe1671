"""A random llama of a few thousand weights with a word tokenizer, and data sets for it, made in a second."""

from __future__ import annotations

from pathlib import Path

from dartlib.records import SftRow, write_records
from dartlib.training import Job, Recipe, TrainingConfig

WORDS = ["Question", "Answer", ":", "?", "+", "=", "The", "answer", "is", ".", *map(str, range(20))]


def config(**changes: object) -> TrainingConfig:
    values = dict(
        template="ladder",
        learning_rate=1e-2,
        epochs=2,
        max_tokens_per_pack=48,
        packs_per_step=2,
        packs_per_forward=1,
        seed=1,
    )
    return TrainingConfig(**{**values, **changes})


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", *WORDS]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def model(seed: int = 0, **changes: object):
    """Random weights, fp32, attention and mode as the trainer uses them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    values = dict(
        vocab_size=3 + len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,  # large enough that attention to another example shows
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(LlamaConfig(**{**values, **changes})).train()


def rows(count: int = 12) -> list[SftRow]:
    """Sums with responses of unequal length."""
    found = []
    for number in range(count):
        query = " + ".join(str((number * 7 + place) % 10) for place in range(2 + number % 3)) + " ?"
        response = "The answer is 3 ." if number % 2 else f"3 + {number % 5} = 7 . The answer is 7 ."
        found.append(SftRow(query, response, f"q{number}", 0, "toy", 1 + number % 3, 0.5, "vrt"))
    return found


def write_dataset(path: Path, count: int = 12) -> Path:
    write_records(path, rows(count), SftRow)
    return path


def write_model(folder: Path, made=None, dtype: str = "bfloat16") -> Path:
    import torch

    made = model() if made is None else made
    made.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def job(folder: Path, *, dataset: Path, base_model: Path, recipe: Recipe | None = None, **changes: object) -> Job:
    """A run into ``folder``; ``changes`` are settings."""
    return Job(dataset, base_model, folder, config(**changes), recipe or Recipe())


def family(name: str):
    """A tiny random model of one of the architectures of the paper's base models, or Qwen2 or Gemma 2."""
    import torch
    import transformers

    torch.manual_seed(0)
    values = dict(
        vocab_size=3 + len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    if name == "Gemma2":
        values |= dict(final_logit_softcapping=6.0, attn_logit_softcapping=5.0, query_pre_attn_scalar=8)
    made = getattr(transformers, f"{name}Config")(**values)
    return getattr(transformers, f"{name}ForCausalLM")(made).train()
