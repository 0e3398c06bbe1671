"""How often a 95 % interval holds the truth, by simulation; asserts nothing, `tests/test_statistics_*` do.

Two arms without a difference: item difficulty (sd 1.5 logits), item by arm (0.7), and a seed effect whose spread is
given in points of accuracy. ``two_way_t``: `compare_over_seeds`. Beside it, as the reference: items resampled over the
seeds' means, which ignores seeds. ``clustered``: `clustered_interval` for k samples an item, beside a Wilson interval
that takes samples for items. ``wilson``: exact, the mean over 99 rates and the lowest of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from _rows import SEED, json_path, report, row
from scipy.stats import binom

from dartlib.statistics import clustered_interval, compare_over_seeds, compare_paired, wilson_interval

STUDIES = 2000
ITEM, BY_ARM = 1.5, 0.7


def chances(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-logits))


def two_way(generator: np.random.Generator, seeds: int, items: int, points: float) -> dict[str, Any]:
    many = chances(generator.normal(0, np.hypot(ITEM, BY_ARM), 200_000))
    spread = points / 100 / (many * (1 - many)).mean()
    held = np.zeros(2)
    width = 0.0
    for _ in range(STUDIES):
        difficulty, arms = generator.normal(0, ITEM, items), []
        for _ in range(2):
            logits = difficulty + generator.normal(0, BY_ARM, items) + generator.normal(0, spread, (seeds, 1))
            arms.append((generator.random((seeds, items)) < chances(logits)).astype(float))
        ours = compare_over_seeds(*arms)
        naive = compare_paired(*(arm.mean(axis=0) for arm in arms), seed=0, resamples=500)
        held += [ours.low <= 0 <= ours.high, naive.low <= 0 <= naive.high]
        width += (ours.high - ours.low) / 2 / STUDIES
    name = f"two_way_t, {seeds} seeds, {items} items, spread {points:g} points"
    made = row(name, held[0] / STUDIES, held[1] / STUDIES, "items resampled, seeds ignored", "coverage")
    return made | {"seeds": seeds, "items": items, "spread": points, "half_width": round(width, 4)}


def clustered(generator: np.random.Generator, items: int, samples: int) -> dict[str, Any]:
    truth = chances(generator.normal(0, 2 * ITEM, 2_000_000)).mean()
    held = np.zeros(2)
    for study in range(STUDIES):
        correct = generator.binomial(samples, chances(generator.normal(0, 2 * ITEM, items)))
        ours = clustered_interval(correct / samples, seed=study)
        naive = wilson_interval(int(correct.sum()), items * samples)
        held += [low <= truth <= high for low, high in (ours, naive)]
    name = f"clustered, {items} items, {samples} samples each"
    return row(name, held[0] / STUDIES, held[1] / STUDIES, "wilson over samples", "coverage")


def wilson(n: int) -> Iterator[dict[str, Any]]:
    rates = np.linspace(0.01, 0.99, 99)
    limits = np.array([wilson_interval(k, n) for k in range(n + 1)])
    inside = (limits[:, :1] <= rates) & (rates <= limits[:, 1:])
    covered = (binom.pmf(np.arange(n + 1)[:, None], n, rates) * inside).sum(axis=0)
    yield row(f"wilson, mean over rates, {n} items", float(covered.mean()), None, None, "coverage")
    yield row(f"wilson, worst rate, {n} items", float(covered.min()), None, None, "coverage")


def main() -> None:
    path = json_path(__doc__)
    generator = np.random.default_rng(SEED)
    rows = [two_way(generator, *case) for case in product((5, 10), (300, 600), (0.0, 2.0, 4.0, 6.0))]
    rows += [clustered(generator, items, samples) for items, samples in product((100, 300), (4, 16))]
    rows += [each for n in (30, 100, 300, 1000) for each in wilson(n)]
    report(rows, path)


if __name__ == "__main__":
    main()
