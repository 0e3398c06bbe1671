"""A result file per model: ``result.json`` with scores and protocol, ``items.parquet`` with every graded reply.

The two are enough to compare models anywhere: no run folder, no model, no benchmark text is needed.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from dartlib.evaluation.scores import score_items
from dartlib.files import text_digest, write_text_atomically
from dartlib.grading import GradingPool
from dartlib.queries import Overlap
from dartlib.records import Item, Query, RecordError, read_table, to_table, write_records

RESULT_VERSION = 1
_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one benchmark was asked and graded: two scores compare only if these agree. The model is no part of it.

    ``stop``: the stop strings; ``max_tokens``: the cap on new tokens; ``prompt_digest``: of all prompts, so of the
    examples' wording too; ``unusable_allowed``: the sanity gate would have stopped here and was told not to.
    """

    benchmark_version: str
    items: int
    template: str
    shots: int
    prompt_digest: str
    stop: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    samples: int
    grader: str
    engine: str
    unusable_allowed: bool

    @property
    def digest(self) -> str:
        """12 hex digits over everything above."""
        return text_digest(json.dumps(asdict(self), sort_keys=True), 12)


@dataclass(frozen=True)
class Result:
    """One model's result file. ``benchmarks``: name -> what `score_items` counted, with ``protocol`` and ``overlap``.

    ``failed_requests`` were repeated; they are no replies.
    """

    model: str
    folder: Path
    benchmarks: Mapping[str, Mapping[str, Any]]
    failed_requests: int

    @cached_property
    def items(self) -> pd.DataFrame:
        """The graded replies, columns as in Item."""
        return read_table(self.folder / "items.parquet", Item).to_pandas()


def benchmark_version(queries: Collection[Query]) -> str:
    """8 hex digits over the ids, references and answer types asked, in any order: another subset is another version."""
    rows = [[q.query_id, q.reference_answer, q.answer_type, str(q.tolerance)] for q in queries]
    return text_digest(json.dumps(sorted(rows)), 8)


def write_result(
    folder: Path,
    model: str,
    items: Sequence[Item],
    protocols: Mapping[str, Protocol],
    *,
    overlaps: Sequence[Overlap] = (),
    failed_requests: int = 0,
) -> Result:
    """Score the items and write both files; ``protocols`` by benchmark. ``result.json`` comes last, whole or absent."""
    frame = to_table(items, Item).to_pandas()
    shared = {each.benchmark: {"whole": each.whole, "part": each.part, "words": each.words} for each in overlaps}
    benchmarks = {}
    with GradingPool() as grading:
        for name, protocol in protocols.items():
            told = {"protocol": asdict(protocol), "protocol_digest": protocol.digest, "overlap": shared.get(name)}
            benchmarks[name] = told | score_items(frame[frame["benchmark"] == name], grading)
    write_records(folder / "items.parquet", items, Item)
    values = {"result_version": RESULT_VERSION, "model": model, "weights": items[0].weights, "benchmarks": benchmarks}
    values |= {"protocol_digest": text_digest("".join(each.digest for each in protocols.values()), 12)}
    values |= {"failed_requests": failed_requests}
    write_text_atomically(folder / _FILE, json.dumps(values, indent=2) + "\n")
    return read_result(folder)


def read_result(path: Path) -> Result:
    """A result by its folder or its ``result.json``; RecordError when it is none, or of another version."""
    folder = path if path.is_dir() else path.parent
    try:
        values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        version, failed = values["result_version"], values["failed_requests"]
        result = Result(values["model"], folder, values["benchmarks"], failed)
    except OSError:
        raise RecordError(f"{folder}: holds no {_FILE}: name the folder that an evaluation wrote") from None
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{folder / _FILE}: not a result file ({error}): run the evaluation again") from None
    if not "".join([result.model, *result.benchmarks]).isprintable():
        raise RecordError(f"{folder}: the name of its model or of a benchmark holds control characters: rename it")
    if version != RESULT_VERSION:
        raise RecordError(f"{folder}: its result is version {version}, expected {RESULT_VERSION}")
    return result
