"""Real references against themselves and against others, beside math-verify: `make bench NAME=self_grading`.

A reference fails if it, or any of its rewrites in another notation, is judged wrong; a false positive is an edited or
foreign reference that is judged equal. Both graders see the same pairs, as responses that hold one box: all references
as they are, and for rewrites and edits a seeded sample of each benchmark, since math-verify would take half an hour
for all of them (the slow tests grade all of them with ours). math-verify runs with its defaults in a process that is
killed when it takes too long; that, like an exception, counts as unequal. Needs DARTLIB_TEST_DATA; about 5 minutes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import sys
from collections.abc import Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

from _rows import json_path, report, row

from dartlib.grading import GradingPool
from dartlib.records import Query, Verdict

sys.path.append(str(Path(__file__).parents[1]))
from grading_references import NAMES, Reference, read_references, same_pairs, unequal_pairs  # noqa: E402
from grading_rewrites import REWRITES  # noqa: E402

SAMPLE = 100  # references of each benchmark whose rewrites and edits are graded
SEED = 20240618
SECONDS = 15.0  # for one answer of math-verify, whose own limit is 5 seconds for each of three steps
MEMORY = 4 << 30  # bytes of its process
THEIRS = "math-verify parse + verify"
WRAPPING = {
    "delimited",
    "displayed",
    "emphasised",
    "stopped",
}  # rewrites of what is around a formula, mostly not read by math-verify inside a box

Pairs = Sequence[tuple[Reference, str]]


def ours(pairs: Pairs) -> list[bool]:
    """Verdicts of our grader."""
    with GradingPool() as pool:
        graded = pool.grade_many(
            (
                Query(query_id="q", source="test", query=ref.query, reference_answer=ref.answer),
                f"\\boxed{{{text}}}",
                "stop",
            )
            for ref, text in pairs
        )
    return [verdict is Verdict.CORRECT for _, verdict, _ in graded]


class MathVerify:
    """math-verify in a process of its own, which is killed when an answer takes too long."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end,), daemon=True)
        self._process.start()
        end.close()
        self._pipe.recv()  # imported

    def judge(self, pairs: Pairs) -> list[bool]:
        """Verdicts in order."""
        return [self._one(ref.answer, text) for ref, text in pairs]

    def _one(self, gold: str, pred: str) -> bool:
        try:
            self._pipe.send((gold, pred))
            if self._pipe.poll(SECONDS):
                return bool(self._pipe.recv())
        except (EOFError, OSError):  # it died
            pass
        self._process.kill()
        self._process.join()
        self._start()
        return False


def _serve(pipe: Connection) -> None:
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    parse_once = lru_cache(maxsize=100)(parse)  # the reference of consecutive pairs
    pipe.send(True)
    while True:
        try:
            gold, pred = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        try:
            pipe.send(bool(verify(parse_once(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{pred}}}"))))
        except Exception:  # noqa: BLE001
            pipe.send(False)


def failing(pairs: Pairs, verdicts: Sequence[bool]) -> set[Reference]:
    """References of which a pair was judged unequal."""
    return {ref for (ref, _), equal in zip(pairs, verdicts, strict=True) if not equal}


def measure(name: str, folder: Path, theirs: MathVerify) -> list[dict[str, object]]:
    """The rows of one benchmark."""
    references = read_references(folder, name)
    sample = random.Random(SEED).sample(references, SAMPLE)
    plain = [(ref, ref.answer) for ref in references]
    same = same_pairs(sample)
    written = [(ref, text) for ref, kind, text in same if kind not in WRAPPING]
    wrapped = [(ref, text) for ref, kind, text in same if kind in WRAPPING]
    unequal, excluded = unequal_pairs(sample)
    part = f"of {SAMPLE} sampled"
    rows = []
    checks = {
        f"as they are, of {len(references)}": plain,
        f"in other notation, {part}": written,
        f"in delimiters, emphasised or with a full stop, {part}": wrapped,
    }
    for what, pairs in checks.items():
        failed = [failing(pairs, judge(pairs)) for judge in (ours, theirs.judge)]
        rows.append(row(f"{name}: failing references {what}", *map(len, failed), THEIRS, "references"))
        print(f"{name}: failing with ours: {[ref.answer for ref in failed[0]]}")
    wrong = [sum(judge(unequal)) for judge in (ours, theirs.judge)]
    shares = [count / len(unequal) for count in wrong]
    rows.append(row(f"{name}: false positives among {len(unequal)} unequal pairs, {part}", *shares, THEIRS, "share"))
    inapplicable = (len(REWRITES) + 1) * SAMPLE - len(same)
    rows.append(row(f"{name}: rewrites that do not apply, {part}", inapplicable, None, None, "rewrites"))
    rows.append(row(f"{name}: edits within the stated precision, {part}", excluded, None, None, "edits"))
    return rows


def main() -> None:
    """Print the rows, and write them as JSON where a path is given."""
    path = json_path(__doc__)
    folder = Path(os.environ["DARTLIB_TEST_DATA"]) / "benchmarks"
    theirs = MathVerify()
    report([each for name in NAMES for each in measure(name, folder, theirs)], path)


if __name__ == "__main__":
    main()
