"""The catalogue: every entry against a tiny file in its published schema, and against the real file if it is here."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib.queries import (
    Source,
    benchmark_names,
    fetch_source,
    find_source,
    get_source,
    load_catalogue,
    load_known_queries,
    load_queries,
    local_file,
    missing_columns,
    probe_source,
    read_queries,
    read_rows,
)
from dartlib.queries.catalogue import parse_source
from dartlib.records import RecordError

MATH_ROW = {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{\frac{4}{2}}$."}
POOL_ROW = {
    "query": "1+1?", "query4test": False, "query_src_agent": "human", "query_src_method": "", "domain": "Algebra",
    "stage": "", "gt_ans": "2", "query_metadata": {"level": 3}, "resp": "It is 2.", "resp_src_agent": "dsmath",
    "resp_src_method": "", "ans_correct": True, "ration_type": "", "proc_correct_prob": None,
    "resp_metadata": {"maxlen": "2048", "task_idx": "0", "temperature": "1.6", "top_p": "0.95"}, "ans": "2",
    "query_id": "m1", "resp_id": "r1",
}  # fmt: skip
INFO_ROW = {
    "query_id": "m1", "domain": "Algebra", "n_samples_list": [4, 4], "n_corrects_list": [1, 0], "tot_n_samples": 8,
    "tot_n_corrects": 1, "pass_rate": 0.125, "pass_rate_bernoulli_std": 0.1,
}  # fmt: skip
OLYMPIAD_ROW = {
    "id": 1, "question": "1+1?", "solution": ["s"], "final_answer": ["2"], "context": None, "subfield": "Algebra",
    "is_multiple_answer": False, "unit": None, "answer_type": "Numerical", "error": None,
}  # fmt: skip
# One row per set in its published schema, written by us.
ROWS: dict[str, dict[str, Any]] = {
    "gsm8k-train": {"question": "1+1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
    "gsm8k-fix": {"query": "1+1?", "gt_ans": "2", "query_metadata": {"n_step": 1}},
    "math-train": MATH_ROW,
    "math-test": MATH_ROW,
    "gsm8k-test": {"question": "1+1?", "answer": "#### 2"},
    "college-math-test": {
        "data_source": "college_math.Book", "question_number": "1.1", "question": "1+1?", "answer": "$2$",
        "license": "CC BY 3.0", "data_topic": "college_math.algebra",
    },
    "deepmind-mathematics": {"question": "1+1?", "answer": "2"},
    "olympiadbench-math": OLYMPIAD_ROW,
    "theoremqa": {"Question": "1+1?", "Answer": 2, "Answer_type": "integer", "Picture": None, "subfield": "Algebra"},
    "metamathqa": {"type": "GSM_SV", "query": "x+1=2?", "original_question": "1+1?", "response": "The answer is: 1"},
    "metamathqa-math-ansaug": {"type": "MATH_AnsAug", "query": "1+1?", "original_question": "1+1?", "response": "2"},
    "mmiqc": {"instruction": "1+1?", "output": "2", "source": "stackexchange-math"},
    "dart-math-uniform": {"query": "1+1?", "response": "2"},
    "dart-math-hard": {"query": "1+1?", "response": "2"},
    "dart-math-pool-math": POOL_ROW,
    "dart-math-pool-gsm8k": POOL_ROW | {"query_metadata": {"n_step": 2}},
    "dart-math-pool-math-query-info": INFO_ROW | {"level": 3},
    "dart-math-pool-gsm8k-query-info": INFO_ROW | {"n_steps": 2.0},
}  # fmt: skip
ASKED = [name for name, source in load_catalogue().items() if source.kind in ("queries", "benchmark")]
FETCHED = ["dart-math-pool-math", "metamathqa", "olympiadbench-math", "dart-math-pool-math-query-info"]
REFERENCE = {"math-train": r"\frac{4}{2}", "math-test": r"\frac{4}{2}", "college-math-test": "$2$"}


def hub_folder(folder: Path, source: Source, rows: list[dict[str, Any]]) -> Path:
    """A folder laid out like a set of the Hub."""
    place = folder / (source.config or ".")
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), place / f"{source.split}-00000-of-00001.parquet")
    return folder


def test_every_entry_has_its_schema_test() -> None:
    assert set(ROWS) == set(load_catalogue())
    assert all(source.licence and "," in source.citation for source in load_catalogue().values())


@pytest.mark.parametrize("name", ROWS)
def test_columns_of_every_entry(name: str) -> None:
    source = get_source(name)
    assert missing_columns(source, ROWS[name]) == []
    broken = {f"old_{column}": value for column, value in ROWS[name].items()}
    wanted = set(source.columns) - ({"solution"} if name.startswith("math-t") else set())
    assert len(missing_columns(source, broken)) >= len(wanted)


@pytest.mark.parametrize("name", ASKED)
def test_queries_of_every_entry(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[name]))
    (query,) = read_queries(path, source=get_source(name), log=pytest.fail)
    assert (query.source, query.query) == (name, "1+1?")
    assert query.reference_answer == REFERENCE.get(name, "2")
    assert query.level == (1 if name.startswith("math-t") else None)


@pytest.mark.parametrize("name", ASKED)
def test_another_copy_of_a_set_must_have_its_columns(name: str, tmp_path: Path) -> None:
    """A benchmark without its column of tolerances would be scored by another rule."""
    source = get_source(name)
    for field in source.everywhere:
        row = {column: value for column, value in ROWS[name].items() if column != source.columns[field][0]}
        (tmp_path / "copy.jsonl").write_text(json.dumps(row))
        with pytest.raises(RecordError, match=f"no column {source.columns[field][0]} for {field} .*: rename one$"):
            read_queries(tmp_path / "copy.jsonl", source=source, log=lambda line: None)


@pytest.mark.parametrize("name", FETCHED)
def test_a_set_is_fetched_whole_with_its_origin(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = get_source(name)
    folder = hub_folder(tmp_path / "hub", source, [ROWS[name]] * 3)
    source = replace(source, repo=str(folder), config=None)
    if get_source(name).config:
        (folder / str(get_source(name).config)).rename(tmp_path / "flat")
        source = replace(source, repo=str(tmp_path / "flat"))
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path / "data"))
    assert local_file(source) is None and probe_source(source) == []
    path = fetch_source(source, lambda _: None)
    rows = [row for _, row in read_rows(path)]
    assert len(rows) == 3 and missing_columns(source, rows[0]) == []
    assert find_source(source, pytest.fail) == path
    origin = json.loads((tmp_path / "data" / f"{name}.origin.json").read_text())
    assert (origin["rows"], origin["licence"]) == (3, source.licence)
    assert not list((tmp_path / "data").glob(".*"))


def test_mirrors_are_tried_and_every_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path / "data"))
    nowhere, mirror = str(tmp_path / "nowhere"), hub_folder(tmp_path / "mirror", get_source("math-train"), [MATH_ROW])
    (tmp_path / "nowhere").mkdir()
    source = replace(get_source("math-train"), repo=nowhere, mirrors=(str(mirror),))
    assert find_source(source, lambda _: None).name == "math-train.parquet"
    source = replace(get_source("gsm8k-train"), repo=nowhere, mirrors=())
    everything = r"gsm8k-train: not in .*nowhere: .*dartlib prefetch gsm8k-train.*DARTLIB_DATA_DIR"
    with pytest.raises(RecordError, match=everything):
        find_source(source, lambda _: None)
    with pytest.raises(RecordError, match=r"not on the Hub .*put its file at .*deepmind-mathematics\.json"):
        load_known_queries("deepmind-mathematics")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": "queries"}, "catalogue, x: unknown key 'kinds'"),
        ({"kind": "sft"}, "catalogue, x: kind 'sft' is none of"),
        ({"columns": {"reference_answer": "a"}}, "catalogue, x: no column for 'query'"),
        ({"licence": None}, "catalogue, x: missing key 'licence'"),
    ],
)
def test_wrong_entries_are_named(change: dict[str, Any], message: str) -> None:
    entry = {"kind": "queries", "columns": {"query": "q"}, "licence": "MIT", "citation": "c"} | change
    with pytest.raises(RecordError, match=message):
        parse_source("x", {key: value for key, value in entry.items() if value is not None})


def test_unknown_names_get_the_closest() -> None:
    with pytest.raises(RecordError, match="did you mean 'math-train'"):
        get_source("math_train")
    with pytest.raises(RecordError, match="mmiqc: holds responses, not queries"):
        load_known_queries("mmiqc")


OLYMPIAD = [
    ({}, ("2", "number", 1e-8)),
    ({"error": "1e-1"}, ("2", "number", 0.1)),
    ({"final_answer": ["$1$,$3$"], "is_multiple_answer": True}, ("$1$,$3$", "set", 1e-8)),
    ({"final_answer": ["$(2,4)$"], "answer_type": "Tuple"}, ("$(2,4)$", "tuple", None)),
    ({"final_answer": ["(0,1]"], "answer_type": "Interval"}, ("(0,1]", "interval", None)),
    ({"final_answer": ["$2n$"], "answer_type": "Expression"}, ("$2n$", "expression", None)),
]
THEOREM = [
    ({"Answer": 1.42, "Answer_type": "float"}, ("1.42", "number", 0.005)),
    ({"Answer": 1.0, "Answer_type": "float"}, ("1.0", "number", None)),
    ({"Answer": 4e-05, "Answer_type": "float"}, ("4e-05", "number", 5e-06)),
    ({"Answer": [1, 1], "Answer_type": "list of integer"}, ("[1, 1]", "tuple", None)),
    ({"Answer": False, "Answer_type": "bool"}, ("False", "boolean", None)),
    ({"Answer": "(c)", "Answer_type": "option"}, ("(c)", "choice", None)),
]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [("olympiadbench-math", *case) for case in OLYMPIAD] + [("theoremqa", *case) for case in THEOREM],
)
def test_answer_types_and_tolerances(
    name: str, change: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS[name] | change]))
    (query,) = read_queries(path, source=get_source(name))
    assert (query.reference_answer, query.answer_type, query.tolerance) == expected


def test_training_rows_without_a_reference_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "math.jsonl"
    rows = [
        MATH_ROW,
        MATH_ROW | {"problem": "2?", "solution": "no box"},
        MATH_ROW | {"problem": "3?", "level": "Level ?"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    said: list[str] = []
    assert [q.level for q in read_queries(path, source=get_source("math-train"), log=said.append)] == [1, None]
    assert said[0].endswith("1 of 3 rows left out: no reference answer (line 2 …)")
    assert said[1].endswith("1 of 2 problems have no known level")


def test_a_benchmark_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    (tmp_path / "gsm8k-test.jsonl").write_text(json.dumps(ROWS["gsm8k-test"]))
    with pytest.raises(RecordError, match=r"1 questions, 0 of them repeated; gsm8k-test has 1319 and 0: .*prefetch"):
        load_queries("gsm8k-test", split="test", queries_per_level=1, seed=0)
    (tmp_path / "gsm8k-train.jsonl").write_text(json.dumps(ROWS["gsm8k-train"]))
    said: list[str] = []
    assert len(load_known_queries("gsm8k-train", log=said.append)) == 1
    assert said == ["gsm8k-train: 1 of its 7,473 queries are in gsm8k-train.jsonl"]


SIZES = {
    "math-test": 5000, "gsm8k-test": 1319, "college-math-test": 2818, "deepmind-mathematics": 1000,
    "olympiadbench-math": 675, "theoremqa": 800,
}  # fmt: skip


def test_the_six_benchmarks_on_the_real_files(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    assert benchmark_names() == list(SIZES)
    for name, size in SIZES.items():
        said: list[str] = []
        queries = load_known_queries(name, log=said.append)
        assert len(queries) == len({query.query_id for query in queries}) == size
        repeats = {"college-math-test": 34, "theoremqa": 1}.get(name, 0)
        told = [line for line in said if "rows repeat a problem" in line]
        assert len(told) == bool(repeats) and all(f"({repeats} problems)" in line for line in told)
    types = Counter(query.answer_type for query in load_known_queries("olympiadbench-math", log=said.append))
    assert types == {"number": 509, "set": 94, "expression": 57, "tuple": 9, "interval": 6}


def test_math_train_on_the_real_file(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """7,474 of the 7,500, four of them without an answer; the two level-less ones get the authors' levels."""
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    said: list[str] = []
    queries = load_known_queries("math-train", log=said.append)
    assert len(queries) == 7470 and any("4 of 7474 rows left out" in line for line in said)
    assert [q.level for q in queries if q.query.startswith("We have a triangle $\\triangle ABC$ and a point $K$")] == [
        2
    ]
    assert [q.level for q in queries if q.query.startswith("One leg of a right triangle is 12")] == [1]
    assert all(query.level for query in queries)
