"""The temperature search: speed of coverage by hand, and a search over a stub whose rates depend on it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from stub_engine import SAMPLING, TEMPLATE, StubEngine, numbered_queries

from dartlib.lab import search_temperature
from dartlib.lab.temperature import speed_of_coverage
from dartlib.statistics import wilson_interval


def test_speed_of_coverage_by_hand() -> None:
    """First correct at trials 0, 2 and 3; a fourth query never. Every response has 10 tokens."""
    drawn = {"a": "1", "b": "001", "c": "0001", "d": "0000"}
    rows = [
        (name, trial, "correct" if flag == "1" else "wrong", 10)
        for name, flags in drawn.items()
        for trial, flag in enumerate(flags)
    ]
    samples = pd.DataFrame(rows, columns=["query_id", "trial", "verdict", "n_tokens"])
    half = speed_of_coverage(samples, 4, 0.5)
    assert (half["trials_to_coverage"], half["tokens_to_coverage"]) == (3, 100)  # 1 + 3 + 3 + 3 trials
    assert speed_of_coverage(samples, 4, 0.25)["trials_to_coverage"] == 1
    assert speed_of_coverage(samples, 4, 0.75)["trials_to_coverage"] == 4
    assert (half["covered"], (half["low"], half["high"])) == (0.75, wilson_interval(3, 4))
    assert pd.isna(speed_of_coverage(samples, 4, 1.0)["trials_to_coverage"])


class WarmEngine(StubEngine):
    """Right more often at temperature 1 than at 0.2, and never at 2."""

    async def complete(self, prompt, sampling, seed):
        factor = {0.2: 0.3, 1.0: 1.0, 2.0: 0.0}[sampling.temperature]
        rate = float(prompt.split("rate ")[1].split("\n")[0])
        return await super().complete(prompt.replace(f"rate {rate}", f"rate {rate * factor}"), sampling, seed)


def test_the_fastest_temperature_comes_first_and_a_repeat_asks_nothing(tmp_path: Path) -> None:
    def search(engine: StubEngine) -> pd.DataFrame:
        return search_temperature(
            numbered_queries([0.1 + 0.02 * number for number in range(20)]),
            [0.2, 1.0, 2.0],
            engine=engine,
            template=TEMPLATE,
            sampling=SAMPLING,
            sampling_seed=1,
            coverage=0.8,
            cap=30,
            pool_folder=tmp_path,
            log=lambda line: None,
        )

    table = search(WarmEngine(slots=20))
    assert table["temperature"].tolist() == [1.0, 0.2, 2.0]
    assert table["trials_to_coverage"][0] < table["trials_to_coverage"][1]
    assert table["covered"][2] == 0 and pd.isna(table["trials_to_coverage"][2])
    again = WarmEngine()
    assert search(again).equals(table) and again.requests == 0


def test_a_pool_that_was_drawn_with_a_higher_cap_is_read_up_to_the_present_one(tmp_path: Path) -> None:
    def search(folder: Path, cap: int) -> pd.DataFrame:
        return search_temperature(
            numbered_queries([0.05 + 0.01 * number for number in range(20)]), [1.0], engine=WarmEngine(slots=20),
            template=TEMPLATE, sampling=SAMPLING, sampling_seed=1, coverage=0.5, cap=cap, pool_folder=folder,
            log=lambda line: None,
        )  # fmt: skip

    low, high = search(tmp_path / "low", 8), search(tmp_path / "both", 60)
    assert search(tmp_path / "both", 8).equals(low) and low["covered"][0] < high["covered"][0]


def test_what_was_asked_behind_a_first_correct_response_does_not_count() -> None:
    """Two queries, solved at trials 0 and 1; the second one's trial 2 came in late."""
    rows = [("a", 0, "correct", 10), ("b", 0, "wrong", 10), ("b", 1, "correct", 10), ("b", 2, "wrong", 99)]
    samples = pd.DataFrame([*rows, ("a", 1, "wrong", 99)], columns=["query_id", "trial", "verdict", "n_tokens"])
    assert speed_of_coverage(samples, 2, 1.0)["tokens_to_coverage"] == 30


def test_an_empty_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="temperatures"):
        search_temperature(
            [], [], engine=StubEngine(), template=TEMPLATE, sampling=SAMPLING, sampling_seed=1, coverage=0.8, cap=3,
            pool_folder=tmp_path,
        )  # fmt: skip
