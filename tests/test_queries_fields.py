"""Foreign rows: columns in any row, by name or by path, and conversations in the shapes that public sets use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dartlib import analysis
from dartlib.queries import load_queries, read_queries, read_rows, read_training_rows
from dartlib.queries.fields import read_fields
from dartlib.records import RecordError

ASKED, ANSWERED = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "It is \\boxed{2}."}
SYSTEM = {"role": "system", "content": "Be brief."}
SHAPES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [ASKED, ANSWERED]},
    "with a system message": {"messages": [SYSTEM, ASKED, ANSWERED], "source": "x"},
    "from and value": {
        "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "It is \\boxed{2}."}]
    },
    "prompt and completion": {"prompt": [ASKED], "completion": [ANSWERED]},
    "prompt and text": {"prompt": [SYSTEM, ASKED], "response": "It is \\boxed{2}."},
    "texts": {"prompt": "1 + 1?", "completion": "It is \\boxed{2}."},
    "input and output": {"input": [ASKED], "output": "It is \\boxed{2}."},
    "a structure of lists": {
        "conversation": {"role": ["User", "Assistant"], "content": ["1 + 1?", "It is \\boxed{2}."]}
    },
    "another name": {"dialog": [ASKED, ANSWERED], "topics": ["sums"]},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "It is \\boxed{2}."}]},
        ]
    },
}
FOR_REINFORCEMENT: dict[str, Any] = {
    "prompt": [ASKED],
    "reward_model": {"ground_truth": "2", "style": "rule"},
    "extra_info": {"index": 7, "split": "train"},
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_conversations_are_read_as_queries_responses_and_training_rows(tmp_path: Path, shape: str, suffix: str) -> None:
    path = write(tmp_path / f"set{suffix}", SHAPES[shape], SHAPES[shape])
    assert list(read_training_rows(path)) == [{"query": "1 + 1?", "response": "It is \\boxed{2}.", "level": None}] * 2
    found = analysis.read_responses(path, log=pytest.fail)
    assert found.outcomes[["query", "n_correct", "distinct"]].to_numpy().tolist() == [["1 + 1?", 2, 1]]
    assert found.texts(found.outcomes["query_id"].tolist())["response"].tolist() == ["It is \\boxed{2}."] * 2
    if shape not in ("prompt and text", "texts", "input and output"):  # an answer in a column of its own is no solution
        (query, _) = read_queries(path, log=lambda line: None)
        assert (query.query, query.reference_answer) == ("1 + 1?", "2")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_nested_reference_beside_a_prompt_of_messages(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"set{suffix}", FOR_REINFORCEMENT)
    (query,) = read_queries(path)
    assert (query.query, query.reference_answer, query.level) == ("1 + 1?", "2", None)
    columns = {"query": "prompt.0.content", "reference_answer": "reward_model.style", "id": "extra_info.index"}
    (query,) = read_queries(path, columns=columns)
    assert (query.query, query.reference_answer, query.metadata) == ("1 + 1?", "rule", '{"id": "7"}')
    with pytest.raises(RecordError, match=r"no column response or .*found: prompt, reward_model, .*chat_query"):
        list(read_training_rows(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_of_several_exchanges_none_is_picked_silently(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"set{suffix}", SHAPES["messages"], {"messages": [ASKED, ANSWERED] * 2})
    row = {".jsonl": "line 2", ".parquet": "row 2"}[suffix]
    for read in (read_queries, analysis.read_responses, lambda file: list(read_training_rows(file))):
        with pytest.raises(
            RecordError, match=f"{row}: holds no single question and answer: name its parts, as in messages"
        ):
            read(path)
    columns = {"query": "messages.0.content", "response": "messages.-1.content"}
    assert [row["query"] for row in read_training_rows(path, columns=columns)] == ["1 + 1?"] * 2
    assert analysis.read_responses(path, columns=columns).counts["correct"] == 2
    with pytest.raises(RecordError, match=r"set\.\w+: no column messages\.4\.content for level \(found: messages"):
        list(read_training_rows(path, columns=columns | {"level": "messages.4.content"}))


LATE = [
    {"query": "a", "response": "r1"},
    {"query": "a", "response": "r2", "correct": False, "level": 3},
    {"query": "a", "response": "r3", "is_correct": True, "correct": None},
]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(LATE), st.sampled_from([".jsonl", ".json", ".parquet"]))
def test_a_column_counts_wherever_it_first_stands(tmp_path: Path, rows: list[dict[str, Any]], suffix: str) -> None:
    path = tmp_path / f"late{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        names = dict.fromkeys(name for row in rows for name in row)
        write(path, *([{name: row.get(name) for name in names} for row in rows] if suffix == ".parquet" else rows))
    said: list[str] = []
    found = analysis.read_responses(path, log=said.append)
    counts = [found.counts[name] for name in ("correct", "wrong", "without a known verdict")]
    assert counts == [1, 1, 1] and found.outcomes["level"].tolist() == [3]
    assert said == ["late: 1 of 3 rows left out: without a known verdict"]
    with pytest.raises(RecordError, match=r"no verdict, but .* has one: judge every row or none"):
        list(read_training_rows(path))


def test_training_rows_leave_out_what_the_file_calls_wrong(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "response": f" r{n}\n", "verdict": verdict, "level": f"Level {n}"}
            for n, verdict in enumerate(["correct", "wrong", "no_answer", "correct"])]  # fmt: skip
    said: list[str] = []
    kept = list(read_training_rows(write(tmp_path / "judged.jsonl", *rows), log=said.append))
    assert [(row["response"], row["level"]) for row in kept] == [(" r0\n", None), (" r3\n", 3)]
    assert [line.partition(": ")[2] for line in said] == ["2 of 4 rows left out: not correct, as the file says itself"]
    everything = list(read_training_rows(tmp_path / "judged.jsonl", columns={"correct": ""}, log=pytest.fail))
    assert len(everything) == 4
    with pytest.raises(RecordError, match="line 1: response is empty: give it or delete the row"):
        list(read_training_rows(write(tmp_path / "empty.jsonl", {"query": "a", "response": " "})))


def test_repeated_problems_are_asked_once_and_told_by_row(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "$1,000", "query_id": 5}] * 100
    rows += [
        {"prompt": "b c", "answer": "2"},
        {"prompt": " a ", "answer": "1000.0"},
        {"prompt": "b c\n", "answer": "-2"},
    ]
    path, said = write(tmp_path / "copies.jsonl", *rows), list[str]()
    queries = load_queries(str(path), split="train", queries_per_level=1, seed=0, log=said.append)
    assert [(query.query, query.reference_answer) for query in queries] == [("a", "$1,000"), ("b c", "2")]
    assert [line.partition("copies.jsonl: ")[2] for line in said] == [
        "101 of 103 rows repeat a problem (2 problems): asked once each, as in their first row",
        "1 rows answer a problem that stood before in other words: line 101 and line 103 ('2', '-2'): correct one",
    ]
    assert len(load_queries(str(path), split="test", queries_per_level=1, seed=0, log=said.append)) == 103
    assert "each occurrence is a query of its own" in said[2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["user", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "0"]), inner, max_size=3)
    ),
    max_leaves=12,
)
COLUMNS = st.sampled_from(["messages", "conversations", "prompt", "completion", "query"])
# fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(COLUMNS, JSON, min_size=1))
def test_no_row_ends_in_anything_but_a_clear_error(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path / "odd.jsonl", row)
    for read in (read_rows, read_queries, read_training_rows):
        try:
            list(read(path))  # type: ignore[operator]
        except RecordError as error:
            assert "odd.jsonl" in str(error)


def test_paths_reach_into_structures_and_lists(tmp_path: Path) -> None:
    row = {"a.b": 1, "a": {"b": 2, "c": [{"d": 3}, {"d": float("nan")}]}}
    path = write(tmp_path / "nested.jsonl", row)
    wanted = {"dotted": ("a.b",), "first": ("a.c.0.d",), "last": ("a.c.-1.d",), "out": ("a.c.2.d", "a.c.x")}
    ((_, cells),) = read_fields(path, wanted, required=())
    assert {field: cell.value for field, cell in cells.items()} == {"dotted": 1, "first": 3, "last": None}
