"""How hard each query is for the teacher, and how sure that is.

The fail rate over a stated set of trials decides quotas (the paper's rule); everything here is about the belief
around it. A level's queries share a zero-inflated beta population: some are never solved, the others' pass rates
follow a beta distribution. Both are fitted by maximum likelihood on the same trials.

What this module does not do: it changes no quota.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dartlib.records import Counts
from dartlib.statistics import ZeroInflatedBeta, fit_zero_inflated_beta, wilson_interval

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


def fit_priors(counts: Mapping[str, Counts], levels: Mapping[str, int | None]) -> Priors:
    """Zero-inflated beta per level (where it has enough queries) and over all, from counts of difficulty trials.

    Raises ValueError when there are no counts.
    """
    if not counts:
        raise ValueError("no trials to fit difficulty priors on: draw difficulty trials first")
    groups: defaultdict[int, list[Counts]] = defaultdict(list)
    for query_id, count in counts.items():
        level = levels.get(query_id)
        if level is not None:
            groups[level].append(count)
    fitted = {level: _fit(group) for level, group in sorted(groups.items()) if len(group) >= MIN_QUERIES_PER_LEVEL}
    return Priors(fitted, _fit(list(counts.values())))


def measure_difficulty(counts: Mapping[str, Counts], levels: Mapping[str, int | None], priors: Priors) -> pd.DataFrame:
    """Measured difficulty of every query, in the order of ``counts``: shares in [0, 1], 95 % intervals.

    Columns: query_id, level, correct, trials; ``fail_rate``, wrong / all, with its Wilson interval ``fail_interval``;
    ``pass_rate``, the posterior mean, with its credible interval ``pass_interval``; ``never``, the posterior
    probability that the teacher never solves the query.
    """
    rows = []
    for query_id, (correct, trials) in counts.items():
        belief = priors.of(levels.get(query_id)).after(correct, trials)
        row: dict[str, object] = {
            "query_id": query_id,
            "level": levels.get(query_id),
            "correct": correct,
            "trials": trials,
        }
        row |= {"fail_rate": 1 - correct / trials if trials else 1.0}
        row |= {"fail_interval": wilson_interval(trials - correct, trials)}
        rows.append(row | {"pass_rate": belief.mean, "pass_interval": belief.interval(), "never": belief.zero})
    return pd.DataFrame(rows)


def _fit(group: Sequence[Counts]) -> ZeroInflatedBeta:
    return fit_zero_inflated_beta([correct for correct, _ in group], [trials for _, trials in group])


def counts_of(samples: pd.DataFrame) -> dict[str, Counts]:
    """Counts per query of a pool's samples (columns ``query_id`` and ``verdict``)."""
    right = (samples["verdict"] == "correct").groupby(samples["query_id"]).agg(["sum", "size"])
    return {str(query_id): Counts(int(row["sum"]), int(row["size"])) for query_id, row in right.iterrows()}
