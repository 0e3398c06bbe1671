"""Students of several sizes in one table and figure, with intervals that say what they cover."""

from __future__ import annotations

import pandas as pd
import pytest

from dartlib import analysis
from dartlib.published import load_published


def replies(model: str, right: str) -> list[dict[str, object]]:
    """One reply to each of a few questions; ``right`` has a 1 for each that is solved."""
    common = {"model": model, "source": "toy", "level": 1, "trial": 0}
    return [
        common | {"query_id": f"q{number}", "verdict": "correct" if mark == "1" else "wrong"}
        for number, mark in enumerate(right)
    ]


@pytest.fixture
def items() -> pd.DataFrame:
    """Base; vrt at two sizes, one seed; prop2diff at the larger size, five seeds that solve 2, 3, 4, 3 and 3 of 4."""
    rows = replies("base", "0001") + replies("vrt-rows1200-seed1", "1011") + replies("vrt-rows600-seed1", "1001")
    for seed, right in enumerate(("1100", "1110", "1111", "0111", "1101"), start=1):
        rows += replies(f"prop2diff-rows1200-seed{seed}", right)
    return pd.DataFrame(rows)


def test_kinds_of_students_by_hand(items: pd.DataFrame) -> None:
    table = analysis.sweep_table(items, "toy").set_index(["strategy", "point"])
    assert list(table.index) == [("base", ""), ("vrt", "rows1200"), ("vrt", "rows600"), ("prop2diff", "rows1200")]
    assert list(table["seeds"]) == [1, 1, 1, 5] and set(table["items"]) == {4}
    assert list(table["accuracy"]) == [0.25, 0.75, 0.5, 0.75]
    assert list(table["covers"]) == ["questions"] * 3 + ["seeds and questions"]
    # Wilson's interval for 3 of 4
    one = table.loc[("vrt", "rows1200")]
    assert [one.accuracy_low, one.accuracy_high] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    # Items' means .8 1 .6 .6: variance .11 / 3; seeds' means .5 .75 1 .75 .75: variance .03125. Left over: the total
    # sum of squares 20 * .75 * .25 = 3.75 less items' 5 * .11 = .55 and seeds' 4 * .125 = .5, over 12.
    variance = 0.11 / 3 / 4 + 0.03125 / 5 - 2.7 / 12 / 20
    assert variance < 0.11 / 3 / 4, "so the questions alone decide: never below them, and freedom at least 4"
    arms = table.loc[("prop2diff", "rows1200")]
    assert arms.accuracy_low == pytest.approx(0.75 - 2.7764 * (0.11 / 3 / 4) ** 0.5, abs=1e-4)
    assert arms.accuracy_high == 1.0, "a share"


def test_the_figure_orders_points_by_their_numbers(items: pd.DataFrame) -> None:
    figure = analysis.sweep_figure(items, "toy")
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["rows600", "rows1200"]
    assert "seeds and questions" in axis.get_ylabel()
    heights = {entry.get_label(): list(entry.lines[0].get_ydata()) for entry in axis.containers}
    assert heights == {"VRT": [50, 75], "Prop2Diff": [75]}


def test_the_papers_cover_figure_has_all_its_series() -> None:
    """Figure 4 (1), (2): 11 sizes a series, 10 without cover; without cover the smallest sets are far below."""
    cover = load_published("one_response_coverage")
    figure = analysis.published_cover_figure(cover)
    math, gsm8k = figure.axes
    names = ["VRT", "VRT (+Cover)", "Prop2Diff (-Cover)", "Prop2Diff"]
    for axis in (math, gsm8k):
        assert [line.get_label() for line in axis.get_lines()] == names
        assert [len(line.get_xdata()) for line in axis.get_lines()] == [11, 11, 10, 11]
        assert axis.get_ylim()[0] == 0
    assert gsm8k.get_lines()[2].get_ydata()[0] == 51.9 and gsm8k.get_lines()[3].get_ydata()[0] == 58.8


def test_learning_rates_are_ordered_as_numbers() -> None:
    from dartlib.analysis.sweeps import _in_order

    names = [f"learning_rate{value}" for value in ("0_0005", "1e_05", "0_001", "5e_05", "0_0001")]
    assert sorted(names, key=_in_order) == [names[number] for number in (1, 3, 4, 0, 2)]
