"""Contamination: which benchmark questions occur in a training set, whole or in part.

Two tests. *Whole*: the question and a training text are equal after normalising (case, spacing, LaTeX dress).
*Part*: they share a run of n words, the overlap test of GPT-3 (Brown et al., 2020, appendix C, n = 13 at most) and of
later data recipes (n = 8 to 13). A question of fewer than n words can only be found whole; such questions are counted.
Neither test sees a paraphrase, so a clean report means "no copy found".
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dartlib.files import find_path
from dartlib.queries.catalogue import benchmark_names, get_source, load_catalogue
from dartlib.queries.hub import data_folder, local_file
from dartlib.queries.joining import normalise_text
from dartlib.queries.sources import load_known_queries, read_queries
from dartlib.records import Query

NGRAM_WORDS = 13
_WORD = re.compile(r"\\?[a-z]+|\d+|[^\W\d_]+")

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """One benchmark against one training set. ``whole`` and ``part`` count questions; ``part`` includes ``whole``.

    ``short`` counts the questions with fewer words than an n-gram of ``words``. ``examples`` pairs up to five of the
    questions found (whole ones first) with the first training text of each.
    """

    benchmark: str
    questions: int
    whole: int
    part: int
    short: int
    words: int
    examples: tuple[tuple[str, str], ...]


def find_overlaps(
    texts: Iterable[str], benchmarks: Mapping[str, Sequence[Query]], *, words: int = NGRAM_WORDS
) -> list[Overlap]:
    """Overlap of training texts (streamed, each looked at once) with every benchmark; runs of ``words`` words.

    Give distinct texts: repeats only cost time. Raises ValueError for fewer than 2 words.
    """
    if words < 2:
        raise ValueError(f"an n-gram has at least 2 words, got {words}")
    index = _Index(benchmarks, words)
    for text in texts:
        index.look_up(text)
    return [index.overlap(name) for name in benchmarks]


def benchmark_overlaps(
    texts: Iterable[str], names: Sequence[str] = (), *, log: Callable[[str], None] = print
) -> list[Overlap]:
    """Overlap of training texts with the benchmarks whose files are there; nothing is fetched.

    ``names`` are known benchmarks (looked for in the data folder) and paths of files; empty: the paper's six. Those
    without a file are left out, and one line to ``log`` says how many and which. Raises RecordError for a file that
    cannot be read, or a known benchmark of a wrong size.
    """
    found: dict[str, list[Query]] = {}
    absent = []
    for name in names or benchmark_names():
        known = name in load_catalogue() or not Path(name).suffix
        if known and local_file(get_source(name)):
            found[name] = load_known_queries(name, log=log)
        elif known or not (path := _own_file(name)):
            absent.append(name)
        else:
            found[path.stem] = read_queries(path, log=log)
    if absent:
        total = len(found) + len(absent)
        where = f"no file in {data_folder()}; `dartlib prefetch NAME` fetches one"
        log(f"{len(absent)} of {total} benchmarks not looked for ({', '.join(absent)}): {where}")
    return find_overlaps(texts, found)


def _own_file(name: str) -> Path | None:
    with suppress(FileNotFoundError):
        return find_path(name)
    return None


class _Index:
    """The benchmarks' normalised texts and n-grams, and what was found of them so far."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Query]], words: int) -> None:
        self._size = words
        self._questions = {name: [query.query for query in queries] for name, queries in benchmarks.items()}
        self._short = dict.fromkeys(benchmarks, 0)
        self._whole: dict[str, list[tuple[str, int]]] = {}
        self._parts: dict[Words, list[tuple[str, int]]] = {}
        self._found: dict[str, dict[str, dict[int, str]]] = {name: {"whole": {}, "part": {}} for name in benchmarks}
        for name, questions in self._questions.items():
            for place, question in enumerate(questions):
                self._whole.setdefault(normalise_text(question), []).append((name, place))
                grams = set(_grams(question, words))
                self._short[name] += not grams
                for gram in grams:
                    self._parts.setdefault(gram, []).append((name, place))

    def look_up(self, text: str) -> None:
        for name, place in self._whole.get(normalise_text(text), ()):
            self._found[name]["whole"].setdefault(place, text)
        for gram in _grams(text, self._size):
            for name, place in self._parts.get(gram, ()):
                self._found[name]["part"].setdefault(place, text)

    def overlap(self, name: str) -> Overlap:
        whole, part = self._found[name]["whole"], self._found[name]["part"] | self._found[name]["whole"]
        places = [*sorted(whole), *(place for place in sorted(part) if place not in whole)]
        examples = tuple((self._questions[name][place], part[place]) for place in places[:5])
        return Overlap(name, len(self._questions[name]), len(whole), len(part), self._short[name], self._size, examples)


def _grams(text: str, size: int) -> Iterable[Words]:
    words = _WORD.findall(text.casefold())
    return zip(*(words[start:] for start in range(size)), strict=False)
