"""How hard each query is for the teacher, and how sure that is.

The fail rate over a stated set of trials decides quotas (the paper's rule); everything here is about the belief
around it. A level's queries share a zero-inflated beta population: some are never solved, the others' pass rates
follow a beta distribution. Both are fitted by maximum likelihood on the same trials.

What this module does not do: it changes no quota.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dartlib.statistics import Interval, ZeroInflatedBeta, fit_zero_inflated_beta, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

Counts = Mapping[str, tuple[int, int]]  # query_id -> (correct, trials)
# A level with fewer queries borrows the population of all levels: three parameters cannot be seen in a handful.
MIN_QUERIES_PER_LEVEL = 20


@dataclass(frozen=True, slots=True)
class Priors:
    """One population of pass rates per level, and the one of all queries for levels that are too small."""

    by_level: Mapping[int, ZeroInflatedBeta]
    overall: ZeroInflatedBeta

    def of(self, level: int | None) -> ZeroInflatedBeta:
        """The population a query of this level comes from."""
        return self.overall if level is None else self.by_level.get(level, self.overall)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Measured difficulty of one query: shares in [0, 1], 95 % intervals.

    ``fail_rate`` is wrong / all with its Wilson interval; ``pass_rate`` is the posterior mean with its credible
    interval; ``never`` the posterior probability that the teacher never solves the query.
    """

    query_id: str
    level: int | None
    correct: int
    trials: int
    fail_rate: float
    fail_interval: Interval
    pass_rate: float
    pass_interval: Interval
    never: float


def fit_priors(counts: Counts, levels: Mapping[str, int | None]) -> Priors:
    """Zero-inflated beta per level (where it has enough queries) and over all, from counts of difficulty trials.

    Raises ValueError when there are no counts.
    """
    if not counts:
        raise ValueError("no trials to fit difficulty priors on: draw difficulty trials first")
    groups: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for query_id, count in counts.items():
        level = levels.get(query_id)
        if level is not None:
            groups[level].append(count)
    fitted = {level: _fit(group) for level, group in sorted(groups.items()) if len(group) >= MIN_QUERIES_PER_LEVEL}
    return Priors(fitted, _fit(list(counts.values())))


def measure_difficulty(counts: Counts, levels: Mapping[str, int | None], priors: Priors) -> list[Difficulty]:
    """Fail rate with Wilson interval and posterior pass rate of every query, in the order of ``counts``."""
    result = []
    for query_id, (correct, trials) in counts.items():
        level = levels.get(query_id)
        belief = priors.of(level).after(correct, trials)
        result.append(
            Difficulty(
                query_id=query_id,
                level=level,
                correct=correct,
                trials=trials,
                fail_rate=1 - correct / trials if trials else 1.0,
                fail_interval=wilson_interval(trials - correct, trials),
                pass_rate=belief.mean,
                pass_interval=belief.interval(),
                never=belief.zero,
            )
        )
    return result


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
    seen: Counts, held_back: Counts, levels: Mapping[str, int | None], priors: Priors, n_bins: int = 5
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


def _fit(group: Sequence[tuple[int, int]]) -> ZeroInflatedBeta:
    return fit_zero_inflated_beta([correct for correct, _ in group], [trials for _, trials in group])


def counts_of(samples: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """(correct, trials) per query of a pool's samples (columns ``query_id`` and ``verdict``)."""
    right = (samples["verdict"] == "correct").groupby(samples["query_id"]).agg(["sum", "size"])
    return {str(query_id): (int(row["sum"]), int(row["size"])) for query_id, row in right.iterrows()}
