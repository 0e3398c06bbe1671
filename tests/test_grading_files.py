"""`dartlib grade`: every line comes back in its place, the five counts add up, and bad lines are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dartlib.grading import grade_file
from dartlib.pipeline.cli import main

LINES: list[tuple[str, str, str]] = [  # line, verdict, reason (or its beginning)
    ('{"reference_answer": "4", "response": "The answer is 4.", "id": 7}', "correct", "string"),
    ('{"reference_answer": 4, "response": "\\\\boxed{5}"}', "wrong", "number"),
    ('{"reference_answer": "1/2", "response": "So \\\\boxed{0.5}", "answer_type": "number"}', "correct", "number"),
    ("{oops", "error", "not a line of JSON: "),
    ('{"reference_answer": "4", "response": ""}', "no_answer", "no_final_answer"),
    ('{"reference_answer": "4"}', "error", "response is missing"),
    ('{"reference_answer": " ", "response": "4"}', "error", "reference_answer is empty"),
    ('{"reference_answer": 1e400, "response": "4"}', "error", "reference_answer is 'inf', not a text or a number"),
    ('{"reference_answer": ["4"], "response": "4"}', "error", "reference_answer is \"['4']\", not a text or a number"),
    ('{"reference_answer": "3.14", "response": "#### 3.2", "tolerance": 0.1}', "correct", "number"),
    ('{"reference_answer": "3.14", "response": "#### 3.2", "tolerance": -1}', "error", "tolerance is '-1', not"),
    ("[1]", "error", "not a JSON object"),
    ('{"reference_answer": "4", "response": "\\\\boxed{4}", "finish_reason": "length"}', "no_answer", "length"),
    ('{"reference_answer": "4", "response": "half \\udc00 a pair, the answer is 4"}', "correct", "string"),
    ('{"reference_answer": "\\\\sqrt{8}", "response": "\\\\boxed{2\\\\sqrt{2}}", "query": null}', "correct", ""),
    ('{"reference_answer": "4", "response": "It comes to 4"}', "no_answer", "no_final_answer"),
]


def grade(tmp_path: Path, content: bytes, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    (tmp_path / "in.jsonl").write_bytes(content)
    said: list[str] = []
    counts = grade_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", log=said.append, **options)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sum(counts.values()) == len(rows)
    return rows, said


def test_every_line_comes_back_in_its_place(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + b"\n\n".join(line.encode() for line, _, _ in LINES) + b"\n" + b"caf\xe9\n"
    rows, said = grade(tmp_path, content)
    assert len(rows) == len(LINES) + 1
    for row, (line, verdict, reason) in zip(rows, LINES, strict=False):
        assert (row["verdict"], row["reason"][: len(reason)]) == (verdict, reason), line
    assert rows[0]["id"] == 7 and rows[0]["answer"] == "4" and rows[3]["line"] == "{oops" and rows[11]["line"] == [1]
    assert rows[-1] == {
        "line": "caf\ufffd", "verdict": "error", "answer": None,
        "reason": "not a line of JSON: 'utf-8' codec can't decode byte 0xe9 in position 3: invalid continuation byte",
    }  # fmt: skip
    assert said[1].endswith("in.jsonl, line 11: response is missing")
    assert said[-1].startswith(
        "correct 5, wrong 1, no_answer 3, timeout 0, error 8: 55.6% of 9 graded are correct (95 %: "
    )
    lenient, _ = grade(tmp_path, content, lenient=True)
    assert [row["verdict"] for row in lenient][15] == "correct"


def test_only_the_first_bad_lines_are_named_but_all_are_counted(tmp_path: Path) -> None:
    rows, said = grade(tmp_path, b"x\n" * 4500)
    assert [row["verdict"] for row in rows] == ["error"] * 4500
    assert len(said) == 11 and said[9].startswith(f"{tmp_path / 'in.jsonl'}, line 10: not a line of JSON")
    assert said[-1] == "correct 0, wrong 0, no_answer 0, timeout 0, error 4,500: no line could be graded"


def test_the_command_explains_and_writes_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(line for line, _, _ in LINES[:2]))
    assert main(["grade", str(path), "--explain"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "mine.graded.jsonl").read_text().splitlines()]
    assert (rows[1]["reference_read_as"], rows[1]["answer_read_as"]) == ("4", "5") and "compared exactly" in rows[1][
        "rule"
    ]
    assert "correct 1, wrong 1, no_answer 0, timeout 0, error 0: 50.0% of 2" in capsys.readouterr().out
    again = ["grade", str(tmp_path / "mine.graded.jsonl"), "--out", str(tmp_path / "again.jsonl")]
    assert main(again) == 0 and [json.loads(line)["verdict"] for line in open(tmp_path / "again.jsonl")] == [
        "correct",
        "wrong",
    ]


def test_what_cannot_be_graded_at_all_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for arguments, message in (
        ([str(empty)], "holds no lines"),
        ([str(tmp_path / "none.jsonl")], "no such file"),
        ([str(empty), "--out", str(empty)], "is the file to grade"),
    ):
        assert main(["grade", *arguments]) == 2
        assert message in capsys.readouterr().err
    empty.write_text(LINES[0][0])
    monkeypatch.setattr("dartlib.grading.pool.GradingPool.grade_many", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        grade_file(empty, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"]
