"""From rows to packs, in plain Python: tokenization, dropping, shuffling, packing. No torch here.

An example is prompt + response + end token, and only the last two are supervised. Examples are laid end to end into
packs so that no computation goes into padding; an example is never cut. Token ids live in a file, of which a step
reads its own: a data set may be larger than the memory, and all processes of a machine share the system's copy. (Mapped
into memory, the file would count as resident in each of them once every page was touched.)
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dartlib.files import sha256_of, text_digest
from dartlib.queries import Template, get_template, read_training_rows
from dartlib.records import RecordError
from dartlib.training.config import TrainingConfig
from dartlib.training.recipe import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROWS_AT_A_TIME = 2000  # tokenized in parallel by the tokenizer's own threads
_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of prompt, response and end token; the first ``prompt_tokens`` carry no loss."""

    token_ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def supervised_tokens(self) -> int:
        """How many tokens carry loss: those of the response, and the end token."""
        return len(self.token_ids) - self.prompt_tokens


class Examples:
    """The examples of a data set that fit into a pack, in file order, each read from its file when asked for.

    ``rows`` holds each one's row number in the data set, counted from 1; ``lengths`` and ``supervised`` its tokens;
    ``dropped`` is the number of rows that were too long.
    """

    def __init__(self, folder: Path, max_tokens: int) -> None:
        ends = np.load(folder / "ends.npy")
        starts = np.concatenate([[0], ends[:-1]])
        fitting = np.flatnonzero(ends - starts <= max_tokens)
        self._tokens = open(folder / "tokens.bin", "rb")  # noqa: SIM115 - open as long as the examples are there
        self._starts, self._prompts = starts[fitting], np.load(folder / "prompts.npy")[fitting]
        self.lengths = (ends - starts)[fitting]
        self.supervised = self.lengths - self._prompts
        self.rows = fitting + 1
        self.dropped = len(ends) - len(fitting)
        self.shortest = int((ends - starts).min())

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Example]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Example:
        size = np.dtype(np.uint32).itemsize
        part = os.pread(self._tokens.fileno(), size * int(self.lengths[number]), size * int(self._starts[number]))
        return Example(tuple(np.frombuffer(part, dtype=np.uint32).tolist()), int(self._prompts[number]))


@dataclass(frozen=True, slots=True)
class Step:
    """The packs of one optimiser step, each a list of example numbers."""

    epoch: int
    packs: list[list[int]]


def encode_examples(
    pairs: Sequence[tuple[str, str]], *, template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[Example]:
    """Tokenize (query, response) pairs. A prompt is tokenized by itself, exactly as for sampling.

    So the model meets what it learnt, whatever tokens the border would have melted into. Masking goes by length, not
    by token id: with many tokenizers the padding token is the end token, and masking by id would teach the model
    never to stop.
    """
    prompts = tokenizer([template.render(query) for query, _ in pairs]).input_ids
    answers = tokenizer([response for _, response in pairs], add_special_tokens=False).input_ids
    end = tokenizer.eos_token_id
    return [Example((*prompt, *answer, end), len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]


def read_examples(
    dataset: Path,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainingConfig,
    *,
    folder: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Examples:
    """The examples of a data set (JSON Lines, JSON, CSV or Parquet with ``query`` and ``response``) that fit a pack.

    ``folder`` keeps the token ids: the next call with the same data, tokenizer and template takes them from there.
    ``log`` gets lines of progress. Raises RecordError for a file that cannot be read, TrainingError for a missing
    column, an empty data set or response, a tokenizer without end token, or when every row is too long.
    """
    if tokenizer.eos_token_id is None:
        raise TrainingError("the base model's tokenizer has no end token: set eos_token in its tokenizer_config.json")
    with tempfile.TemporaryDirectory() as temporary:  # an open file may be unlinked
        place = Path(temporary) / "tokens" if folder is None else folder / _tokens_name(dataset, tokenizer, config)
        if not place.is_dir():
            _tokenize(dataset, tokenizer, get_template(config.template, lambda: tokenizer), place, log)
        examples = Examples(place, config.max_tokens_per_pack)
    if not len(examples):
        raise TrainingError(
            f"{dataset}: all {examples.dropped} rows are longer than a pack of {config.max_tokens_per_pack} tokens, "
            f"the shortest has {examples.shortest}; raise max_tokens_per_pack"
        )
    return examples


def _tokens_name(dataset: Path, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig) -> str:
    """Names the folder of a data set's tokens by all that decides them."""
    words = f"{tokenizer.backend_tokenizer.to_str()} {tokenizer.eos_token_id}"
    parts = f"{sha256_of(dataset)} {get_template(config.template, lambda: tokenizer).fingerprint} {words}"
    return f"tokens-{text_digest(parts, 16)}"


def _tokenize(
    dataset: Path,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    place: Path,
    log: Callable[[str], None],
) -> None:
    """Write all rows' token ids, ends and prompt lengths into the folder ``place``: whole or absent."""
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    lengths: list[int] = []
    prompts: list[int] = []
    pairs = _pairs(dataset, log)
    started = said = time.monotonic()
    with open(partial / "tokens.bin", "wb") as handle:
        while chunk := list(itertools.islice(pairs, _ROWS_AT_A_TIME)):
            examples = encode_examples(chunk, template=template, tokenizer=tokenizer)
            lengths += [len(example.token_ids) for example in examples]
            prompts += [example.prompt_tokens for example in examples]
            handle.write(np.concatenate([np.array(one.token_ids, dtype=np.uint32) for one in examples]).tobytes())
            now = time.monotonic()
            if now - said >= _PROGRESS_SECONDS:
                said = now
                log(f"{len(lengths):,} rows tokenized, {len(lengths) / (now - started):,.0f} rows/s")
    if not lengths:
        raise TrainingError(f"{dataset}: the data set has no rows; was any response right? Draw more, or ask easier")
    np.save(partial / "ends.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(partial / "prompts.npy", np.array(prompts, dtype=np.int64))
    partial.rename(place)


def _pairs(dataset: Path, log: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """(query, response) of every row that the file does not call wrong; TrainingError at the first one without them."""
    try:
        for row in read_training_rows(dataset, log=log):
            yield row["query"], row["response"]
    except RecordError as error:
        raise TrainingError(str(error)) from None


def pack(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Next-fit: packs in the given order, a new one when the next example would overflow (as the paper's code).

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


def pack_best_fit(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Best-fit decreasing: longest first, each into the pack where it leaves the least room, else into a new one.

    Equal lengths keep the given order. Packs stand in the order in which they were begun: shuffle them, for the
    first ones hold the longest examples.
    """
    packs: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(max_tokens + 1)]  # room -> packs
    rooms = 0  # bit r is set where with_room[r] is not empty: the least room that suffices is one shift away
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            number = with_room[room].pop()
            rooms ^= (not with_room[room]) << room
        else:
            room, number = max_tokens, len(packs)
            packs.append([])
        packs[number].append(index)
        with_room[room - length].append(number)
        rooms |= 1 << (room - length)
    return packs


def plan_steps(lengths: Sequence[int], config: TrainingConfig) -> list[Step]:
    """All optimiser steps of a run. Examples are shuffled in every epoch and then packed, so packs differ by epoch.

    A pure function of its arguments: a run that goes on after a kill needs to know no more than the number of its
    next step. Planned at once because the learning rate schedule needs the exact number of steps.
    """
    steps = []
    lengths = [int(length) for length in lengths]
    for epoch in range(config.epochs):
        order = list(range(len(lengths)))
        generator = random.Random(f"{config.seed} {epoch}")
        generator.shuffle(order)
        fill = pack if config.packing == "next-fit" else pack_best_fit
        packs = fill([lengths[number] for number in order], config.max_tokens_per_pack)
        packs = [[order[place] for place in places] for places in packs]
        if config.packing == "best-fit":
            generator.shuffle(packs)
        size = config.packs_per_step
        steps += [Step(epoch, packs[start : start + size]) for start in range(0, len(packs), size)]
    return steps
