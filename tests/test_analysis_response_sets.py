"""Any set of responses, counted: published counts come out again, rows are never lost, bad files are named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dartlib import analysis
from dartlib.published import load_published
from dartlib.records import Query, RecordError, make_queries

SILENT = lambda _: None  # noqa: E731


def asked(levels: dict[str, int | None]) -> list[Query]:
    rows = [{"query": text, "reference_answer": "1", "level": level} for text, level in levels.items()]
    return make_queries(rows, source="s", version="1")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def by_text(found: analysis.ResponseSet, column: str) -> dict[str, Any]:
    return dict(zip(found.outcomes["query"], found.outcomes[column], strict=True))


def test_a_set_of_metamathqas_counts_has_its_published_statistics(tmp_path: Path) -> None:
    """Built from the counts alone; coverage and shares must be the printed ones, by level and in all."""
    table = load_published("metamathqa_by_level").pivot(index="level", columns="quantity", values="value")
    queries, rows = {}, []
    for level in "12345":
        covered, responses = int(table.loc[level, "covered_queries"]), int(table.loc[level, "responses"])
        for number in range(int(table.loc[level, "queries"])):
            text = f"Question {number} of level {level}"
            queries[text] = int(level)
            if number < covered:
                count = responses // covered + (number < responses % covered)
                rows += [{"query": text, "response": f"Way {i}"} for i in range(count)]
    found = analysis.read_responses(write(tmp_path / "metamathqa.parquet", rows), asked=asked(queries))
    bias = analysis.bias_table(found.outcomes).set_index("group")
    made_of = analysis.composition_table(found.outcomes).set_index("group")
    assert [round(100 * value, 1) for value in bias["coverage"]] == [98.1, 93.6, 86.7, 76.6, 48.9]
    assert [round(100 * value, 1) for value in made_of["share"]] == [15.6, 29.2, 26.0, 18.7, 10.5]
    assert [round(100 * value, 1) for value in bias["share"]] == [15.6, 29.2, 26.0, 18.7, 10.5]
    assert [round(value, 1) for value in bias["mean"]] == [20.7, 16.2, 12.3, 8.3, 3.4]
    summary = analysis.bias_summary(found.outcomes).iloc[0]
    assert (summary["queries"], summary["responses"], round(100 * summary["coverage"], 1)) == (7500, 75_000, 74.9)
    assert 100 * summary["hardest_query_share"] == pytest.approx(30.7, abs=0.05)
    assert (made_of["share_low"] < made_of["share"]).all() and (made_of["share"] < made_of["share_high"]).all()


TINY = [
    {"query": " a ", "response": "x", "level": "Level 2", "is_correct": True},
    {"query": "a", "response": "x", "level": "Level 2", "is_correct": True},
    {"query": "A.", "response": "yy\u2028", "level": "Level 2", "is_correct": False},
    {"query": "b", "response": "zzz", "level": "Level ?", "is_correct": True},
    {"query": "elsewhere", "response": "w", "level": "Level 1", "is_correct": True},
    {"query": "b", "response": None, "level": "Level ?", "is_correct": True},
    {"query": None, "response": "v", "level": None, "is_correct": None},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_row_is_in_the_report(tmp_path: Path, suffix: str) -> None:
    said: list[str] = []
    queries = asked({"a": 1, "b": None, "c": 5})
    found = analysis.read_responses(write(tmp_path / f"tiny{suffix}", TINY), asked=queries, log=said.append)
    counts = dict(found.counts)
    assert counts.pop("rows") == len(TINY)
    lost = ("without a query", "without a response", "to none of the queries asked")
    assert [counts[what] for what in lost] == [1, 1, 1]
    assert (counts["matched exactly"], counts["matched after normalising"]) == (3, 1)
    assert (counts["wrong"], counts["correct"], counts["queries without a level"]) == (1, 3, 1)
    assert counts["correct, but a repeat of another response to its query"] == 1
    assert len(said) == 3 and said[2].endswith("1 of 7 rows left out: to none of the queries asked")
    assert by_text(found, "n_correct") == {"a": 2, "b": 1, "c": 0}
    assert by_text(found, "characters") == {"a": 2, "b": 3, "c": 0}
    assert found.samples is not None
    assert found.samples["verdict"].value_counts().to_dict() == {"correct": 3, "wrong": 1}
    texts = found.texts([queries[0].query_id])
    assert texts["response"].tolist() == ["x", "x", "yy\u2028"] and texts["trial"].tolist() == [0, 1, 2]
    alone = analysis.read_responses(write(tmp_path / f"tiny{suffix}", TINY), log=SILENT)
    assert by_text(alone, "n_correct") == {"a": 2, "A.": 0, "b": 1, "elsewhere": 1}
    assert analysis.bias_table(alone.outcomes)["group"].tolist() == ["1", "2", "none"]


def test_rephrased_queries_count_for_their_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    rows = [
        {"type": "MATH_AnsAug", "query": "a", "original_question": "a", "response": "1"},
        {"type": "MATH_Rephrased", "query": "say a", "original_question": "a", "response": "2"},
        {"type": "GSM_AnsAug", "query": "b", "original_question": "b", "response": "3"},
    ]
    write(tmp_path / "metamathqa.parquet", rows)
    found = analysis.read_responses("metamathqa", asked=asked({"a": 1, "b": 2}), log=SILENT)
    assert by_text(found, "n_correct") == {"a": 2, "b": 1}
    assert found.counts["rephrased, counted for their original"] == 1
    part = analysis.read_responses("metamathqa-math-ansaug", asked=asked({"a": 1, "b": 2}), log=SILENT)
    assert by_text(part, "n_correct") == {"a": 1, "b": 0} and part.counts["rows"] == 1


def test_nested_columns_of_a_published_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    row = {"query": "a", "resp": "1", "gt_ans": "1", "query_id": "m1", "domain": "d", "ans_correct": True}
    write(tmp_path / "dart-math-pool-math.parquet", [row | {"query_metadata": {"level": 4}}] * 2)
    found = analysis.read_responses("dart-math-pool-math", log=SILENT)
    assert by_text(found, "level") == {"a": 4} and found.samples is None
    assert found.outcomes["fail_rate"].isna().all(), "a pool of correct responses does not tell pass rates"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_known_set_without_its_verdicts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    row = {"query": "a", "resp": "1", "gt_ans": "1", "query_id": "m1", "domain": "d", "query_metadata": {"level": 4}}
    write(tmp_path / f"dart-math-pool-math{suffix}", [row] * 2)
    with pytest.raises(RecordError, match=r"no column ans_correct for correct \(found: query, resp, .*\): rename one$"):
        analysis.read_responses("dart-math-pool-math", log=SILENT)


ROW = st.fixed_dictionaries(
    {"query": st.sampled_from("abc"), "response": st.sampled_from("xyz"), "correct": st.booleans()}
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=40))
def test_counts_are_those_of_plain_python(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    found = analysis.read_responses(
        write(tmp_path / "rows.parquet", rows), asked=asked(dict.fromkeys("abc", 1)), log=SILENT
    )
    right = [row for row in rows if row["correct"]]
    assert by_text(found, "n_correct") == {text: Counter(row["query"] for row in right)[text] for text in "abc"}
    different = {text: len({row["response"] for row in right if row["query"] == text}) for text in "abc"}
    assert by_text(found, "distinct") == different
    assert by_text(found, "rows") == {text: Counter(row["query"] for row in rows)[text] for text in "abc"}
    if found.samples is not None:
        order = found.samples.merge(found.outcomes[["query_id", "query"]])
        for text in "abc":
            verdicts = ["correct" if row["correct"] else "wrong" for row in rows if row["query"] == text]
            assert order.loc[order["query"] == text, "verdict"].tolist() == verdicts


def test_trials_of_several_models_are_shuffled_and_texts_follow(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{i}", "response": f"{model} {i}", "correct": model == "strong", "model": model}
        for model in ("weak", "strong")
        for i in range(200)
    ]
    found = analysis.read_responses(write(tmp_path / "two.parquet", rows), log=SILENT)
    assert found.samples is not None and found.counts["models"] == 2
    first = (found.samples.query("trial == 0")["verdict"] == "correct").mean()
    assert 0.35 < first < 0.65, "in the order of the file the weak model would come first everywhere"
    texts = found.texts(found.outcomes["query_id"].tolist())
    merged = texts.merge(found.samples, on=["query_id", "trial"], suffixes=("", "_of_sample"))
    assert len(merged) == 400 and (merged["verdict"] == merged["verdict_of_sample"]).all()


def test_held_out_halves_do_not_meet(tmp_path: Path) -> None:
    """Two queries of four trials: right in the first half only, and in the second half only."""
    pattern = {"a": [1, 1, 0, 0], "b": [0, 0, 1, 1]}
    rows = [{"query": q, "response": "r", "correct": bool(hit)} for q, hits in pattern.items() for hit in hits]
    found = analysis.read_responses(write(tmp_path / "halves.parquet", rows), log=SILENT)
    assert found.samples is not None
    held = analysis.held_out_outcomes(found.samples, "x").set_index("query_id")
    ids = {text: identity for identity, text in zip(found.outcomes["query_id"], found.outcomes["query"], strict=True)}
    assert held.loc[ids["a"], ["fail_rate", "n_correct", "n_trials"]].tolist() == [0.0, 0, 2]
    assert held.loc[ids["b"], ["fail_rate", "n_correct", "n_trials"]].tolist() == [1.0, 2, 2]


def test_one_graded_response_per_query_and_a_set_of_other_queries(tmp_path: Path) -> None:
    rows = [{"query": q, "response": "r", "correct": q == "a"} for q in "ab"]
    found = analysis.read_responses(write(tmp_path / "one.parquet", rows), log=SILENT)
    assert found.samples is not None and len(analysis.held_out_outcomes(found.samples, "x")) == 0
    assert analysis.pass_rates(found.samples, 1)["pass_rate"].tolist() in ([0.0, 1.0], [1.0, 0.0])
    elsewhere = analysis.read_responses(tmp_path / "one.parquet", asked=asked({"c": 1}), log=SILENT)
    assert elsewhere.samples is None and by_text(elsewhere, "n_correct") == {"c": 0}
    assert elsewhere.counts["to none of the queries asked"] == 2


BAD = [
    ("set.jsonl", '{"query": "a"}\n', "line 1: no column response or .* for response .found: query"),
    ("set.jsonl", '{"query": "a", "response": "b"}\n{oops\n', r"set.jsonl, line 2: invalid JSON"),
    ("set.jsonl", '{"query": "a", "response": "b"}\n{"query": "c"}\n', r"line 2: response is missing: every row needs"),
    ("set.jsonl", '{"query": "a", "response": "b"}\n{"query": "c", "response": 3}\n', r"line 2: response is int"),
    ("set.jsonl", '{"query": ["a"], "response": "b"}\n', r"line 1: query is list, expected text"),
    ("set.jsonl", "", "set.jsonl: holds no responses"),
    ("set.json", "[]", "set.json: holds no responses"),
    ("set.csv", "query,response\na,b,c\n", r"set.csv, line 2: more fields than columns"),
    ("set.txt", "", "unknown kind of file"),
    ("set.json", '{"data": []}', "set.json: holds no list: write a list of objects, one per row"),
    ("set.json", '[{"query": "a"},\n {"query": }]', r"set.json: invalid JSON at line 2 .*: correct it or delete"),
    ("set.jsonl", '{"query": "a", "response": "b", "pass_rate": "high"}', "line 1: pass_rate is 'high', expected a nu"),
    ("set.csv", "query,response,pass_rate\na,b,1.5", "line 2: pass_rate is 1.5, not between 0 and 1"),
    ("set.jsonl", '{"query": "a", "response": "b", "n_tokens": ' + "9" * 400 + "}", "line 1: n_tokens is '9+', exp"),
    ("set.jsonl", '{"query": "a", "response": "b", "pass_rate": 1e400}', "line 1: pass_rate is too large for a number"),
    ("set.jsonl", '{"query": "a", "response": "b", "n_tokens": -3}', "line 1: n_tokens is -3, not a number of tokens"),
    ("set.csv", "query,response,correct\na,b,perhaps\nc,,", "none of its 2 rows can be used: 0 without a query, 1 wi"),
    ("set.jsonl", '{"query": "a", "response": "\\udc00"}', r"set.jsonl, line 1: .udc00 is half a character"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_bad_files_are_named_with_row_and_field(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises((analysis.AnalysisError, RecordError), match=message):
        analysis.read_responses(tmp_path / name)


def test_bad_parquet_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", [{"query": "a", "response": ["b"]}])
    with pytest.raises(analysis.AnalysisError, match=r"set.parquet, row 1: response is list, expected text"):
        analysis.read_responses(path)
    path = write(tmp_path / "set.parquet", [{"query": "a", "response": "b" * 5000}] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        RecordError, match=r"not a readable Parquet file, perhaps cut short .*: write or fetch it again"
    ):
        analysis.read_responses(path)
    write(tmp_path / "empty.parquet", [{"query": "a", "response": "b"}])
    pq.write_table(pq.read_table(tmp_path / "empty.parquet").slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(analysis.AnalysisError, match="holds no responses"):
        analysis.read_responses(tmp_path / "empty.parquet")
    with pytest.raises(analysis.AnalysisError, match="wildcards"):
        analysis.read_responses(write(tmp_path / "a[1].parquet", [{"query": "a", "response": "b"}]))
    with pytest.raises(analysis.AnalysisError, match="no such file, and not a known data set"):
        analysis.read_responses(tmp_path / "absent.parquet")
    with pytest.raises(analysis.AnalysisError, match="gsm8k-test: holds benchmark, not responses: choose another"):
        analysis.read_responses("gsm8k-test")
    with pytest.raises(RecordError, match="unknown field 'answer'"):
        analysis.read_responses(path, columns={"answer": "a"})


def test_damaged_pages_and_wrong_numbers_in_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", [{"query": "a", "response": "b" * 5000}] * 100)
    damaged = bytearray(path.read_bytes())
    damaged[60:120] = bytes(60)  # a page; the footer is whole
    path.write_bytes(bytes(damaged))
    with pytest.raises(analysis.AnalysisError, match=r"set.parquet: cannot be counted .*: write or fetch it again"):
        analysis.read_responses(path)
    row = {"query": "a", "response": "b"}
    path = write(tmp_path / "rates.parquet", [row | {"pass_rate": "high"}])
    with pytest.raises(analysis.AnalysisError, match="rates.parquet, row 1: pass_rate is 'high', expected a number"):
        analysis.read_responses(path)
    path = write(tmp_path / "rates.parquet", [row | {"pass_rate": 1.5}, row])
    with pytest.raises(analysis.AnalysisError, match="a pass rate is not between 0 and 1 in 1 rows, .* query 'a'"):
        analysis.read_responses(path)


def test_an_unknown_verdict_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    verdicts = ["correct", "wrong", "timeout", "error", "maybe", None]
    rows = [{"query": "a", "response": str(i), "verdict": verdict} for i, verdict in enumerate(verdicts)]
    said: list[str] = []
    found = analysis.read_responses(write(tmp_path / "set.parquet", rows), log=said.append)
    assert (found.counts["correct"], found.counts["wrong"], found.counts["without a known verdict"]) == (1, 2, 3)
    assert said == ["set: 3 of 6 rows left out: without a known verdict"]
    floats = [{"query": "a", "response": str(i), "correct": hit} for i, hit in enumerate([1.0, 0.0, 0.0])]
    found = analysis.read_responses(write(tmp_path / "floats.parquet", floats), log=said.append)
    assert (found.counts["correct"], found.counts["wrong"]) == (1, 2)


def test_categorical_texts_and_missing_numbers_of_pandas_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"query": ["a", "b"], "response": ["x", "y"], "pass_rate": [0.5, None], "n_tokens": [3, None]})
    frame = frame.astype({"query": "category", "response": "category"})
    for suffix, save in ((".parquet", frame.to_parquet), (".csv", frame.to_csv)):
        save(tmp_path / f"set{suffix}")
        found = analysis.read_responses(tmp_path / f"set{suffix}", log=SILENT)
        assert by_text(found, "n_correct") == {"a": 1, "b": 1}
        assert by_text(found, "tokens")["a"] == 3 and pd.isna(by_text(found, "fail_rate")["b"])


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_bytes(b'{"query": "a", "response": "b"}\n{"query": "caf\xe9", "response": "b"}\n')
    with pytest.raises(RecordError, match=r"set.jsonl, line 2: not UTF-8"):
        analysis.read_responses(tmp_path / "set.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_huge_and_hostile_texts_are_only_text(tmp_path: Path, suffix: str) -> None:
    hostile = "<script>alert(1)</script> $x$ '; DROP TABLE rows; --"
    rows = [{"query": hostile, "response": "é" * 8_000_000}, {"query": hostile, "response": hostile}]
    found = analysis.read_responses(write(tmp_path / f"huge{suffix}", rows), log=SILENT)
    assert by_text(found, "characters") == {hostile: 8_000_000 + len(hostile)}
    texts = found.texts(found.outcomes["query_id"].tolist())
    shown = analysis.table_html(texts)
    assert "<script>" not in shown and "8000000 characters" in shown and len(shown) < 20_000


def test_odd_column_names_are_quoted(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.parquet", [{'q"; DROP': "a", "response": "b"}])
    found = analysis.read_responses(path, columns={"query": 'q"; DROP'}, log=SILENT)
    assert by_text(found, "n_correct") == {"a": 1}


def test_an_sft_set_of_ours_keeps_its_levels_and_pass_rates(tmp_path: Path) -> None:
    rows = [
        {"query": q, "response": str(i), "level": 1, "pass_rate": p}
        for q, p in (("a", 0.5), ("b", 1.0))
        for i in (1, 2)
    ]
    found = analysis.read_responses(write(tmp_path / "vrt.parquet", rows), log=SILENT)
    assert by_text(found, "fail_rate") == {"a": 0.5, "b": 0.0}
    bins = analysis.bias_table(found.outcomes.drop(columns="level"))
    assert bins["group"].tolist() == ["0–0.2", "0.4–0.6"]
    for figure in (analysis.responses_by_level_figure, analysis.responses_by_rank_figure):
        figure(found.outcomes).draw_without_rendering()
