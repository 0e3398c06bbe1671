"""Responses find their query: exact first, then normalised; other numbers never match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartlib.queries import join_texts, normalise_text
from dartlib.records import make_queries


def asked(*texts: str):
    return make_queries([{"query": text, "reference_answer": "1"} for text in texts], source="s", version="1")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Janet’s ducks lay 16 eggs.", "janet's ducks lay 16 eggs"),
        (r"What is $\dfrac{1}{2}$?", r"what is \frac{1}{2}"),
        (r"Find $\left( a,\, b \right)$.", "Find (a, b)"),
        ("It is “so” — yes!", 'it is "so" - yes'),
        ("ﬁnd x", "find x"),  # a ligature
    ],
)
def test_dress_does_not_matter(left: str, right: str) -> None:
    assert normalise_text(left) == normalise_text(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("What is 1.5+2?", "What is 15+2?"), ("2^3", "23"), ("x-1", "x+1"), ("(1,2]", "(1,2)"), (r"\leftarrow", "arrow")],
)
def test_content_does(left: str, right: str) -> None:
    assert normalise_text(left) != normalise_text(right)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_digits_stay_and_white_space_dollars_and_capitals_go(text: str) -> None:
    once = normalise_text(text)
    assert re.findall("[0-9]", once) == re.findall("[0-9]", text)
    assert not re.search(r"[\s$A-Z]", once)


def test_exact_comes_before_normalised_and_ambiguous_forms_match_nothing() -> None:
    queries = asked("What is 2 + 2?", "what is 2+2", "Solve $x$.", "Twice?", "Twice?")
    first, second, third, twice, _ = (query.query_id for query in queries)
    texts = [" What is 2 + 2? ", "what is 2+2", "WHAT IS 2+2", "solve x", "Twice?", "twice", "unknown"]
    assert join_texts(texts, queries) == {
        " What is 2 + 2? ": (first, "exact"),
        "what is 2+2": (second, "exact"),
        "solve x": (third, "normalised"),
        "Twice?": (twice, "exact"),
        "twice": (twice, "normalised"),
    }


def test_real_labelled_file_matches_every_gsm8k_question(test_data, monkeypatch) -> None:
    """Its questions carry curly quotes where the benchmark has them too; all 1,319 are found."""
    from dartlib.queries import load_known_queries, read_rows

    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    texts = {row["query"] for _, row in read_rows(test_data / "labelled" / "gsm8k-6b-responses.jsonl")}
    joined = join_texts(texts, load_known_queries("gsm8k-test"))
    assert len({identity for identity, _ in joined.values()}) == 1319
