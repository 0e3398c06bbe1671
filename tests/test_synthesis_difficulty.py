"""Difficulty posteriors: populations, calibration on held-back trials, published counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dartlib.records import Counts
from dartlib.statistics import Interval, wilson_interval
from dartlib.synthesis import fit_priors, measure_difficulty
from dartlib.synthesis.difficulty import Priors


def drawn(rates: np.ndarray, trials: int, seed: int) -> dict[str, Counts]:
    found = np.random.default_rng(seed).binomial(trials, rates)
    return {f"q{number}": Counts(int(correct), trials) for number, correct in enumerate(found)}


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well beliefs from some trials foretell others of the same queries, per bin of predicted pass rate.

    ``bins`` holds (queries, predicted mean, observed share, its Wilson interval). ``predicted_never`` and
    ``observed_never`` are numbers of queries without a correct held-back trial.
    """

    bins: Sequence[tuple[int, float, float, Interval]]
    predicted_never: float
    observed_never: int


def check_calibration(
    seen: Mapping[str, Counts],
    held_back: Mapping[str, Counts],
    levels: Mapping[str, int | None],
    priors: Priors,
    n_bins: int = 5,
) -> Calibration:
    """Compare posteriors from ``seen`` trials with ``held_back`` ones; the bins hold equally many queries.

    The Wilson interval treats held-back trials of one bin as independent: a little too narrow where the queries of
    a bin differ. Raises KeyError when a held-back query was not seen.
    """
    beliefs = {query_id: priors.of(levels.get(query_id)).after(*seen[query_id]) for query_id in held_back}
    order = sorted(held_back, key=lambda query_id: beliefs[query_id].mean)
    bins = []
    for part in np.array_split(np.array(order), min(n_bins, len(order))):
        correct = sum(held_back[query_id][0] for query_id in part)
        trials = sum(held_back[query_id][1] for query_id in part)
        predicted = sum(beliefs[query_id].mean * held_back[query_id][1] for query_id in part) / trials
        bins.append((len(part), predicted, correct / trials, wilson_interval(correct, trials)))
    never = sum(1 - beliefs[query_id].chance(1, trials) for query_id, (_, trials) in held_back.items())
    return Calibration(bins, never, sum(correct == 0 for correct, _ in held_back.values()))


def population(never: int, others: int, seed: int) -> np.ndarray:
    return np.concatenate([np.zeros(never), np.random.default_rng(seed).beta(2, 3, others)])


def test_a_large_level_has_its_own_population_and_a_small_one_borrows() -> None:
    easy, hard = drawn(np.full(60, 0.9), 20, 1), drawn(np.full(60, 0.1), 20, 2)
    counts = {f"e{key}": value for key, value in easy.items()} | {f"h{key}": value for key, value in hard.items()}
    levels = {query_id: 1 if query_id.startswith("e") else 5 for query_id in counts} | {"eq0": 3}
    priors = fit_priors(counts, levels)
    assert set(priors.by_level) == {1, 5}
    assert priors.of(1).mean == pytest.approx(0.9, abs=0.03)
    assert priors.of(5).mean == pytest.approx(0.1, abs=0.03)
    assert priors.of(3) == priors.of(None) == priors.overall
    assert priors.overall.mean == pytest.approx(0.5, abs=0.05)


def test_measured_difficulty_of_a_query() -> None:
    counts = drawn(population(300, 700, 3), 32, 4)
    priors = fit_priors(counts, {})
    assert priors.overall.zero == pytest.approx(0.3, abs=0.03)
    first = measure_difficulty({"q": Counts(8, 32)}, {"q": 2}, priors).iloc[0]
    assert (first.fail_rate, first.never, first.level) == (0.75, 0.0, 2)
    assert first.fail_interval == wilson_interval(24, 32)
    assert first.pass_interval[0] < first.pass_rate < first.pass_interval[1]
    # the population is centred at 0.4, so the posterior mean is drawn from 8/32 towards it
    assert 0.25 < first.pass_rate < 0.3
    unsolved = measure_difficulty({"q": Counts(0, 32)}, {}, priors).iloc[0]
    assert unsolved.never > 0.9 and unsolved.pass_interval[0] == 0.0


def test_posteriors_foretell_held_back_trials() -> None:
    """Predictions from 16 trials against 100 others of the same 3,000 queries, bin by bin."""
    rates = population(600, 2400, 5)
    seen, held_back = drawn(rates, 16, 6), drawn(rates, 100, 7)
    found = check_calibration(seen, held_back, {}, fit_priors(seen, {}))
    assert [queries for queries, *_ in found.bins] == [600] * 5
    for _, predicted, observed, _ in found.bins:
        assert predicted == pytest.approx(observed, abs=0.02)
    assert found.predicted_never == pytest.approx(found.observed_never, rel=0.05)
    # a check that can fail: counts without shrinkage promise too little to the unsolved and too much to the solved
    raw = sum(correct == 0 for correct, _ in seen.values())
    assert abs(raw - found.observed_never) > 2 * abs(found.predicted_never - found.observed_never)


def test_a_plain_beta_prior_is_kept_where_no_query_looks_unsolvable() -> None:
    assert fit_priors(drawn(np.random.default_rng(8).beta(20, 10, 500), 32, 9), {}).overall.zero == 0.0


def test_no_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="draw difficulty trials first"):
        fit_priors({}, {})


def test_posteriors_foretell_held_back_rollouts_of_a_real_model(test_data: Path) -> None:
    """1,209 recorded problems: every second record (8 rollouts each) foretells the others, so the drift cancels."""
    lines = (test_data / "replay" / "pass-rates-1209.jsonl").read_text().splitlines()
    recorded = [json.loads(line) for line in lines]

    def half(first: int) -> dict[str, Counts]:
        parts = {row["query_id"]: row["correct_per_record"][first::2] for row in recorded}
        return {query_id: Counts(sum(part), 8 * len(part)) for query_id, part in parts.items()}

    seen, held_back = half(0), half(1)
    found = check_calibration(seen, held_back, {}, fit_priors(seen, {}))
    for _, predicted, observed, _ in found.bins:
        assert predicted == pytest.approx(observed, abs=0.01)
    assert found.predicted_never == pytest.approx(found.observed_never, rel=0.05)
