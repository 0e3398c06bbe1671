"""Result files side by side: pairs by item, arms over seeds, unlike protocols refused, the paper's cells judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from dartlib.evaluation import ComparisonError, Protocol, compare_results, write_result
from dartlib.evaluation.comparison import paper_differences
from dartlib.pipeline.cli import main
from dartlib.published import load_published
from dartlib.queries import benchmark_names, get_source
from dartlib.records import Item
from dartlib.statistics import compare_over_seeds, holm

PROTOCOL = Protocol("v1", 8, "alpaca", 0, "p", ("###",), 2048, 0.0, 1.0, 1, "grader 1", "vllm 1", False)


def result(folder: Path, model: str, right: Sequence[bool], benchmark: str = "gsm8k-test", **changes):
    """One model's result file; item n of the benchmark is right or wrong as told."""
    items = [
        Item(
            f"q{n}", benchmark, "v1", None, None, 0, "correct" if each else "wrong", "number", "7" if each else "8",
            "stop", 5, f"The answer is {7 if each else 8}.", "h", "d", "grader 1", "vllm 1", f"weights of {model}",
        )
        for n, each in enumerate(right)
    ]  # fmt: skip
    protocol = replace(PROTOCOL, items=len(items), **changes)
    return write_result(folder / model, model, items, {benchmark: protocol}).folder


def test_pairs_are_paired_by_item_and_corrected(tmp_path: Path) -> None:
    paths = [
        result(tmp_path, "a", [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]),
        result(tmp_path, "b", [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]),
        result(tmp_path, "c", [0] * 10),
    ]
    found = compare_results(paths)
    row = found.pairs[(found.pairs["first"] == "a") & (found.pairs["second"] == "b")].iloc[0]
    assert (row["items"], row["difference"]) == (10, pytest.approx(0.4))
    assert row["p_value"] == pytest.approx(binomtest(1, 6).pvalue)  # 5 won, 1 lost
    assert found.pairs["p_holm"].tolist() == pytest.approx(holm(found.pairs["p_value"].tolist()))
    assert len(found.pairs) == 3 and list(found.scores["value"]) == [0.4, 0.8, 0.0]
    assert found.arms.empty


def test_unlike_protocols_are_refused_and_named(tmp_path: Path) -> None:
    first = result(tmp_path, "a", [1, 0, 1])
    second = result(tmp_path, "b", [1, 1, 1], max_tokens=128, unusable_allowed=True)
    with pytest.raises(ComparisonError, match=r"(?s)gsm8k-test, a / b: max_tokens: 2048 / 128.*unusable_allowed"):
        compare_results([first, second])
    found = compare_results([first, second], unlike=True)
    assert found.scores["marks"].tolist() == ["", "UNUSABLE replies allowed"]
    assert any(note.startswith("unlike: gsm8k-test, a / b: max_tokens") for note in found.notes)
    assert found.scores["protocol"].nunique() == 2
    with pytest.raises(ComparisonError, match="two results are named 'a'"):
        compare_results([first, first])


def test_weights_are_no_part_of_the_protocol(tmp_path: Path) -> None:
    found = compare_results([result(tmp_path, "a", [1, 0]), result(tmp_path, "b", [0, 0])])
    assert found.scores["protocol"].nunique() == 1


def test_other_benchmarks_are_not_in_the_way(tmp_path: Path) -> None:
    found = compare_results([result(tmp_path, "a", [1, 0]), result(tmp_path, "b", [0, 0], benchmark="theoremqa")])
    assert found.pairs.empty and list(found.scores["benchmark"]) == ["gsm8k-test", "theoremqa"]
    assert list(found.published.columns) == ["GSM8K", "TheoremQA"]


def test_arms_need_five_seeds(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    scores = {arm: generator.random((5, 30)) < rate for arm, rate in {"vrt": 0.3, "prop2diff": 0.6}.items()}
    paths = [
        result(tmp_path, f"{arm}-seed{seed}", rows) for arm, table in scores.items() for seed, rows in enumerate(table)
    ]
    found = compare_results(paths)
    assert found.arms.iloc[0]["seeds"] == (5, 5)
    expected = compare_over_seeds(scores["vrt"], scores["prop2diff"])
    assert found.arms.iloc[0][["difference", "low", "high"]].tolist() == pytest.approx(list(expected[:3]))
    assert compare_results(paths[:-1]).arms.empty  # four: points, no claim


def test_the_papers_rows_and_whether_they_compare(tmp_path: Path) -> None:
    found = compare_results([result(tmp_path, "a", [1, 0, 1])], paper_rows="Mistral-7B")
    assert found.published.loc["DART Mistral-7B Prop2Diff", "GSM8K"] == 81.1
    assert any("not comparable with the paper's cells: 3 of its 1,319 items" in note for note in found.notes)
    whole = asdict(replace(PROTOCOL, items=1319))
    assert paper_differences("gsm8k-test", whole) == []
    reasons = {
        "2 samples at": dict(samples=2, temperature=0.7),
        "a cap of 128": dict(max_tokens=128),
        "template ladder": dict(template="ladder"),
        "worked examples of our own": dict(template="qa"),
        "most replies unusable": dict(unusable_allowed=True),
    }
    for said, change in reasons.items():
        (found_reason,) = paper_differences("gsm8k-test", whole | change)
        assert found_reason.startswith(said)
    assert paper_differences("ladder-arithmetic", whole) == ["none of its six benchmarks"]


def test_every_benchmark_has_its_column_in_the_papers_table() -> None:
    published = set(load_published("main_results")["benchmark"])
    from dartlib.evaluation.comparison import _paper_names

    assert set(_paper_names()) == set(benchmark_names()) and set(_paper_names().values()) == published - {"AVG"}
    pairs = {"math-test": "MATH", "olympiadbench-math": "OlympiadBench-Math", "college-math-test": "CollegeMath"}
    assert pairs.items() <= _paper_names().items()
    assert all(get_source(name).rows for name in benchmark_names())


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = result(tmp_path, "a", [1, 0, 1]), result(tmp_path, "b", [1, 1, 1], max_tokens=128)
    assert main(["compare", str(first), str(second)]) == 2
    said = capsys.readouterr().err
    assert "max_tokens: 2048 / 128" in said and "--unlike" in said
    assert main(["compare", str(first), str(second), "--unlike", "--paper", "VRT"]) == 0
    printed = capsys.readouterr().out
    assert "pass@1" in printed and "Mistral-7B-VRT" in printed and "not comparable with the paper" in printed
    assert main(["compare", str(tmp_path)]) == 2
