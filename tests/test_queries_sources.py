"""Files of own problems: what is read, and the one clear line for each thing that can be wrong."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib.queries import load_queries, read_queries
from dartlib.records import RecordError

ROWS = [
    {"question": 'How many, "exactly"?\nSay.', "answer": "2 + 2 = 4\n#### 1,004", "level": "Level 3"},
    {"question": "Half of x?", "answer": "\\frac{x}{2}", "level": "Level ?"},
    {"question": "Half of x?", "answer": "x/2", "level": "5"},
]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8-sig") as handle:
            writer = csv.DictWriter(handle, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_queries(tmp_path: Path, suffix: str) -> None:
    said: list[str] = []
    queries = read_queries(_write(tmp_path / f"own{suffix}", ROWS), log=said.append)
    assert [query.query for query in queries] == ['How many, "exactly"?\nSay.', "Half of x?", "Half of x?"]
    assert [query.reference_answer for query in queries] == ["1,004", "\\frac{x}{2}", "x/2"]
    assert [query.answer_type for query in queries] == ["number", "expression", "expression"]
    assert [query.level for query in queries] == [3, None, 5]
    assert {query.source for query in queries} == {"own"}
    assert len({query.query_id for query in queries}) == 3  # equal questions are two occurrences
    repeats, disputed, levels = (line.removeprefix(f"{tmp_path / 'own'}{suffix}: ") for line in said)
    assert repeats == "1 of 3 rows repeat a problem (1 problems): each occurrence is a query of its own"
    places = {".jsonl": "line 2 and line 3", ".csv": "line 5 and line 6"}.get(suffix, "row 2 and row 3")
    assert disputed.startswith(
        f"1 rows answer a problem that stood before in other words: {places} ('\\\\frac{{x}}{{2}}', 'x/2')"
    )
    assert levels == "1 of 3 problems have no known level"


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"text": "1 + 1?", "key": 2, "hard": 4.0, "eps": "0.5", "id": 7}]
    rows[0] |= {"domain": ["sums", "small"], "answer_type": "number"}
    columns = {"query": "text", "reference_answer": "key", "level": "hard", "tolerance": "eps"}
    (query,) = read_queries(_write(tmp_path / "own.jsonl", rows), columns=columns, source="mine")
    assert (query.query, query.reference_answer, query.level, query.tolerance) == ("1 + 1?", "2", 4, 0.5)
    assert (query.source, query.domain, json.loads(query.metadata)) == ("mine", "sums, small", {"id": "7"})
    columns |= {"level": ""}  # another scale
    assert read_queries(_write(tmp_path / "own.jsonl", [rows[0] | {"level": 9}]), columns=columns)[0].level is None


GOOD = '{"query": "a", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + '{"query": "b", \n', r"own\.jsonl, line 2: invalid JSON"),
        (GOOD + "\n[1]\n", r"own\.jsonl, line 3: expected an object"),
        ('[{"role": "user"}]\n[{"role": "user"}]\n', r"own\.jsonl, line 1: expected an object"),
        ('{"text": "a", "answer": "1"}', r"line 1: no column query or question or problem .*found: text, answer"),
        ('{"query": "a", "key": "1"}', r"no column reference_answer or answer .* for reference_answer"),
        ('{"query": "a", "solution": "1"}', r"line 1: solution has no \\boxed\{…\}: every query needs a reference"),
        ("", "holds no problems"),
        (GOOD + '{"query": "b"}', r"line 2: answer is missing: every row needs it: give it or delete the row"),
        (GOOD + '{"query": "b", "answer": null}', r"line 2: answer is empty: every query needs a reference answer"),
        (GOOD + '{"query": "b", "answer": 1e400}', r"line 2: answer is too large for a number: write it as text"),
        (GOOD + '{"query": "b", "answer": "1", "level": -Infinity}', r"line 2: level is too large for a number"),
        (GOOD + '{"query": "b", "answer": ' + "9" * 5000 + "}", r"line 2: invalid JSON .a number with too many digits"),
        (GOOD + '{"query": "b", "answer": "see ####"}', r"line 2: answer is empty"),
        (GOOD + '{"query": " ", "answer": "1"}', r"line 2: query is empty"),
        (GOOD + '{"query": "b", "answer": ["1"]}', r"line 2: answer must be text or a number, not list"),
        (GOOD + '{"query": "b", "answer": true}', r"line 2: answer must be text or a number, not bool"),
        (GOOD + '{"query": "b", "answer": "1", "level": 6}', r"line 2: level '6' is not 1 to 5"),
        (GOOD + '{"query": "b", "answer": "1", "level": 2.5}', r"line 2: level '2\.5' is not 1 to 5"),
        (GOOD + '{"query": "b", "answer": "1", "tolerance": -1}', r"line 2: tolerance '-1' is not a number"),
        (
            '{"query": "a", "answer": "1", "id": 3}\n{"query": "b", "answer": "1", "id": 3}',
            r"line 2: id '3' was already used on line 1: make it unique",
        ),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_queries(path)


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b"query,answer\na,1\n" + "caf\xe9,2\n".encode("latin-1"))
    with pytest.raises(RecordError, match=r"own\.csv, line 3: not UTF-8"):
        read_queries(path)


def test_csv_with_too_many_fields_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("query,answer\na,1\nb, c,2\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"own\.csv, line 3: more fields than columns"):
        read_queries(path)


def test_csv_rows_over_several_lines_and_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "own.CSV"

    def read(text: str) -> list[str]:
        path.write_text(text, encoding="utf-8")
        return [query.query for query in read_queries(path)]

    assert read('query,answer\n"one\n""two"", three",2\nplain,3\n') == ['one\n"two", three', "plain"]
    for text, message in [
        ('query,answer\n"one\ntwo",\n', r"own\.CSV, lines 2-3: answer is empty: .*: give it or delete the row"),
        ('query,answer\na,1\n"never closed,2\n', r"own\.CSV, line 3 or later: not valid CSV .*: close every quote"),
        ("query;answer\na;1\n", r"own\.CSV, line 1: columns are separated by ';': save the file with commas"),
        ("query,query,answer\na,b,1\n", r"own\.CSV, line 1: column 'query' occurs twice: rename one"),
    ]:
        with pytest.raises(RecordError, match=message):
            read(text)


def test_a_byte_order_mark_and_missing_values_of_pandas(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"query": "a", "answer": 1, "level": NaN}\n')
    (query,) = read_queries(path, log=lambda line: None)
    assert (query.query, query.level) == ("a", None)
    path.write_text('{"query": "a", "answer": NaN}\n', encoding="utf-8")
    with pytest.raises(RecordError, match="line 1: answer is empty"):
        read_queries(path)


def test_folders_and_packed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").mkdir()
    with pytest.raises(RecordError, match=r"own\.jsonl: is a folder: name one file in it"):
        read_queries(tmp_path / "own.jsonl")
    packed, table = gzip.compress(GOOD.encode()), _write(tmp_path / "table.parquet", ROWS).read_bytes()
    lines, listed, cells = (GOOD * 2).encode(), f"[\n{GOOD}]".encode(), b"query,answer\na,1\n"
    for name, content, message in (
        ("a.jsonl.gz", packed, r"is compressed \(\.gz\): unpack it first"),
        ("a.jsonl", packed, r"is compressed \(\.gz\): unpack it first"),
        ("a.parquet", bz2.compress(table), r"is compressed \(\.bz2\): unpack it first"),
        ("b.jsonl.gz", lines, "holds JSON Lines: rename it to b.jsonl$"),
        ("c.json", lines, "holds JSON Lines: rename it to c.jsonl$"),
        ("c.txt", lines, "holds JSON Lines: rename it to c.jsonl$"),
        ("c", lines, "holds JSON Lines: rename it to c.jsonl$"),
        ("d.jsonl", listed, "holds a JSON list: rename it to d.json$"),
        ("d.csv", listed, "holds a JSON list: rename it to d.json$"),
        ("e.jsonl", table, "holds Parquet: rename it to e.parquet$"),
        ("f.parquet", lines, "holds JSON Lines: rename it to f.jsonl$"),
        ("g.json", cells, "holds CSV: rename it to g.csv$"),
        ("g.tsv", cells.replace(b",", b"\t"), "unknown kind of file: use one of .jsonl, .json, .csv, .parquet"),
        ("h.xlsx", b"PK\x03\x04", "unknown kind of file: use one of .jsonl, .json, .csv, .parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordError, match=message):
            read_queries(tmp_path / name)


def test_cut_parquet_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "own.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError, match=r"own\.parquet: not a readable Parquet file"):
        read_queries(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_queries(tmp_path / "own.json")
    with pytest.raises(RecordError, match="unknown field 'answer'"):
        read_queries(_write(tmp_path / "own.jsonl", ROWS), columns={"answer": "answer"})


def test_load_queries_takes_a_path_or_a_ladder(tmp_path: Path) -> None:
    path = _write(tmp_path / "own.jsonl", ROWS)
    assert load_queries(str(path), split="test", queries_per_level=1, seed=0) == read_queries(path)
    assert load_queries(str(path), split="train", queries_per_level=1, seed=0) == read_queries(path)[:2]
    with pytest.raises(
        RecordError, match="no such file, not a built-in ladder .*ladder-arithmetic.* known data set .*math-train"
    ):
        load_queries("arithmetic", split="train", queries_per_level=1, seed=0)


def test_real_gsm8k_file(test_data: Path) -> None:
    queries = read_queries(test_data / "benchmarks" / "gsm8k-test.jsonl")
    assert len(queries) == 1319
    assert queries[0].reference_answer == "18"
    assert {query.answer_type for query in queries} == {"number"}


def test_a_reference_in_several_boxes_is_a_list_and_told(tmp_path: Path) -> None:
    row = {"query": "Solve.", "solution": "so it is $\\boxed{4}$ and $\\boxed{5}$"}
    path = tmp_path / "solved.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    said: list[str] = []
    (query,) = read_queries(path, log=said.append)
    assert query.reference_answer == "4, 5"
    assert [line for line in said if "1 of 1 references are lists, stated in several boxes" in line]


def test_several_known_sets_at_once_and_a_part_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    gsm = [{"question": f"q{n}?", "answer": f"#### {n}"} for n in range(9)]
    _write(tmp_path / "gsm8k-train.jsonl", gsm)
    math = [{"problem": f"p{n}", "answer": str(n), "level": 2, "type": "x", "solution": ""} for n in range(5)]
    _write(tmp_path / "math-train.jsonl", math)

    def texts(source: str, seed: int = 1) -> list[str]:
        return [
            q.query for q in load_queries(source, split="train", queries_per_level=1, seed=seed, log=lambda _: None)
        ]

    every = [f"p{n}" for n in range(5)] + [f"q{n}?" for n in range(9)]
    assert texts("math-train, gsm8k-train") == every
    three = texts("math-train,gsm8k-train:3")
    assert three[:5] == every[:5] and len(three) == 8 and set(three[5:]) < set(every[5:])
    assert texts("gsm8k-train:3") == three[5:] and texts("gsm8k-train:3", seed=2) != three[5:]
    assert set(texts("gsm8k-train:3")) < set(texts("gsm8k-train:4")), "a smaller part of the same draw"
    for wrong in ("math-train,math-train", "math-train:x", "math-train,other"):
        with pytest.raises(RecordError, match="not a known data set"):
            texts(wrong)
