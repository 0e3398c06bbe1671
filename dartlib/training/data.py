"""From rows to packs, in plain Python: tokenization, dropping, shuffling, packing. No torch here.

An example is prompt + response + end token, and only the last two are supervised. Examples are laid end to end into
packs so that no computation goes into padding; an example is never cut.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dartlib.queries import Template, get_template
from dartlib.records import SftRow, read_table
from dartlib.training.config import TrainingConfig, TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of prompt, response and end token; the first ``prompt_tokens`` carry no loss."""

    token_ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def supervised_tokens(self) -> int:
        """How many tokens carry loss: those of the response, and the end token."""
        return len(self.token_ids) - self.prompt_tokens


@dataclass(frozen=True, slots=True)
class Step:
    """The packs of one optimiser step, each a list of example numbers."""

    epoch: int
    packs: list[list[int]]


def encode_example(query: str, response: str, *, template: Template, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Tokenize one row. The prompt is tokenized by itself, exactly as for sampling, so the model meets what it learnt.

    Masking goes by length, not by token id: with many tokenizers the padding token is the end token, and masking by
    id would teach the model never to stop.
    """
    prompt: list[int] = tokenizer(template.render(query)).input_ids
    answer: list[int] = tokenizer(response, add_special_tokens=False).input_ids
    return Example((*prompt, *answer, tokenizer.eos_token_id), len(prompt))


def read_examples(
    dataset: Path, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig
) -> tuple[list[Example], int]:
    """Examples of a data set that fit into a pack, in file order, and the number of those that do not.

    Columns ``query`` and ``response`` are needed. Raises RecordError for a missing or mistyped column, TrainingError
    for an empty data set or response, a tokenizer without end token, or when every row is too long.
    """
    if tokenizer.eos_token_id is None:
        raise TrainingError("the base model's tokenizer has no end token: set eos_token in its tokenizer_config.json")
    rows = read_table(dataset, SftRow, columns=["query", "response"]).to_pylist()
    if not rows:
        raise TrainingError(f"{dataset}: the data set has no rows; was any response correct?")
    template = get_template(config.template, lambda: tokenizer)
    examples = []
    for number, row in enumerate(rows):
        for column in ("query", "response"):
            if not row[column].strip():
                raise TrainingError(f"{dataset}: row {number} has an empty {column}; remove the row")
        examples.append(encode_example(row["query"], row["response"], template=template, tokenizer=tokenizer))
    fitting = [example for example in examples if len(example.token_ids) <= config.max_tokens_per_pack]
    if not fitting:
        shortest = min(len(example.token_ids) for example in examples)
        raise TrainingError(
            f"{dataset}: all {len(rows)} rows are longer than a pack of {config.max_tokens_per_pack} tokens, the "
            f"shortest has {shortest}; raise max_tokens_per_pack"
        )
    return fitting, len(examples) - len(fitting)


def pack(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Fill packs in the given order, starting a new one when the next example would overflow (as the paper's code).

    ``lengths`` are token counts, none above ``max_tokens``; returns the indices of each pack.
    """
    packs: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if length > room:
            packs.append([])
            room = max_tokens
        packs[-1].append(index)
        room -= length
    return packs


def plan_steps(lengths: Sequence[int], config: TrainingConfig) -> list[Step]:
    """All optimiser steps of a run. Examples are shuffled in every epoch and then packed, so packs differ by epoch.

    Planned at once because the learning rate schedule needs the exact number of steps.
    """
    steps = []
    for epoch in range(config.epochs):
        order = list(range(len(lengths)))
        random.Random(f"{config.seed} {epoch}").shuffle(order)
        packs = pack([lengths[number] for number in order], config.max_tokens_per_pack)
        packs = [[order[place] for place in places] for places in packs]
        size = config.packs_per_step
        steps += [Step(epoch, packs[start : start + size]) for start in range(0, len(packs), size)]
    return steps
