"""Contamination: what counts as found, worked out by hand, and the overlap of the real sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dartlib.queries import benchmark_overlaps, find_overlaps, load_known_queries
from dartlib.records import RecordError, make_queries

LONG = "A train leaves the city at noon and travels north at sixty miles per hour for exactly three hours"


def asked(*texts: str):
    return make_queries([{"query": text, "reference_answer": "1"} for text in texts], source="s", version="1")


def test_whole_part_and_short_are_counted_per_question() -> None:
    tail = " ".join(LONG.split()[4:17])  # thirteen words of it
    benchmark = asked(
        LONG, "What is $2+2$?", "Nothing like it appears in the training set at all, however long you look for it."
    )
    texts = [f"Yesterday: {tail} and so on", "what is 2+2", " ".join(LONG.split()[5:17])]
    (found,) = find_overlaps(texts, {"b": benchmark})
    assert (found.questions, found.whole, found.part, found.short, found.words) == (3, 1, 2, 1, 13)
    assert found.examples == (("What is $2+2$?", "what is 2+2"), (LONG, texts[0]))
    (nothing,) = find_overlaps(texts[2:], {"b": benchmark})
    assert (nothing.whole, nothing.part) == (0, 0), "twelve words in a row are not thirteen"


def test_repeated_questions_and_several_benchmarks() -> None:
    found = find_overlaps(
        ["one two three"], {"b": asked("One two, three?", "one two three"), "c": asked("four")}, words=2
    )
    assert [(item.benchmark, item.whole, item.part) for item in found] == [("b", 2, 2), ("c", 0, 0)]
    with pytest.raises(ValueError, match="at least 2 words"):
        find_overlaps([], {}, words=1)


def test_benchmarks_without_a_file_are_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    own = tmp_path / "mine.jsonl"
    own.write_text(json.dumps({"query": LONG, "answer": "1"}) + "\n", encoding="utf-8")
    said: list[str] = []
    (found,) = benchmark_overlaps([LONG.upper()], [str(own), "math-test", str(tmp_path / "gone.json")], log=said.append)
    assert (found.benchmark, found.questions, found.whole) == ("mine", 1, 1)
    assert len(said) == 1 and said[0].startswith("2 of 3 benchmarks not looked for (math-test, ")
    assert benchmark_overlaps([LONG], log=said.append) == [] and said[1].startswith("6 of 6 benchmarks not looked for")
    with pytest.raises(RecordError, match="did you mean 'gsm8k-test'"):
        benchmark_overlaps([LONG], ["gsm8k-tst"])


def test_known_benchmarks_are_found_by_name(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    first = load_known_queries("gsm8k-test")[0].query
    said: list[str] = []
    both = benchmark_overlaps([first], ["theoremqa", "gsm8k-test"], log=said.append)
    found = [(one.benchmark, one.questions, one.whole) for one in both]
    assert found == [("theoremqa", 800, 0), ("gsm8k-test", 1319, 1)]
    assert not any("not looked for" in line for line in said)


@pytest.mark.slow
def test_real_math_train_overlaps_its_own_test(test_data, monkeypatch) -> None:
    """Three MATH test questions stand in MATH train up to spacing; none of GSM8K's do. Seen with this code."""
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    benchmarks = {name: load_known_queries(name) for name in ("math-test", "gsm8k-test")}
    math, gsm8k = find_overlaps((query.query for query in load_known_queries("math-train")), benchmarks)
    plain = {"".join(query.query.split()).replace("$", "").lower() for query in load_known_queries("math-train")}
    same = [q for q in benchmarks["math-test"] if "".join(q.query.split()).replace("$", "").lower() in plain]
    assert len(same) <= math.whole == 3 and math.part > 500
    assert gsm8k.whole == 0
