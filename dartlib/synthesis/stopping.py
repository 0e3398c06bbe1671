"""When to give a query up: the paper's cap, or earlier by what its trials say.

The posterior rule looks at a query at fixed numbers of trials. It gives up when the chance of still meeting the
quota under the cap, given the query's own trials and its level's population, falls below a threshold - but keeps
a query that is hopeless in this sense while it has no correct response and fewer than ``patience`` trials, or while
its correct responses are worth their ``price``: coverage and yield of hard queries are what difficulty-aware sampling
is for. Decisions depend on the numbered trials alone, so timing cannot change them.

A rule saves by abandoning hard queries, so it is judged on trials, achieving ratio, and correct responses plus
coverage on the hardest queries together (``dartlib.lab.judge``).
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd

from dartlib.records import QueryOutcome
from dartlib.statistics import ZeroInflatedBeta
from dartlib.synthesis.difficulty import Priors

# Reviews at numbers of trials that grow by a quarter: 20 of them between 20 and 2,048.
_GROWTH = 1.25
FIRST_REVIEW = 16


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Give a query up when its chance of meeting the quota under the cap is below ``threshold``.

    ``patience``: a query without a correct response is kept for at least this many trials. ``price``: a query whose
    next correct response is expected to take at most this many trials is kept too; 0 keeps none.
    """

    threshold: float
    patience: int
    price: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}: a chance lies between 0 and 1 (for no rule, give none)")
        if self.patience < 0 or self.price < 0:
            raise ValueError(f"patience {self.patience} and price {self.price} are numbers of trials: not below 0")


@dataclass(frozen=True, slots=True)
class PosteriorStopping:
    """A stopping rule with the populations it judges by. ``first_review``: number of trials at the first look."""

    rule: StoppingRule
    priors: Priors
    first_review: int = FIRST_REVIEW

    def next_review(self, known: int) -> int:
        """The first number of trials above ``known`` at which a query is looked at."""
        reviews = _reviews(self.first_review)
        return reviews[bisect_right(reviews, known)]

    def stops_at(self, level: int | None, quota: int, cap: int, prefix: Sequence[bool]) -> int | None:
        """Number of trials after which the query is given up, None if that is not within ``prefix``."""
        belief, last = self.priors.of(level), min(len(prefix), cap - 1)
        known = correct = 0
        for review in _reviews(self.first_review):
            if review > last:
                return None
            correct += sum(prefix[known:review])
            known = review
            if correct >= quota:
                return None
            kept = correct == 0 and known < self.rule.patience
            if not kept and correct < _least_hopeful(belief, quota, cap, known, self.rule):
                return known
        return None


@lru_cache
def _reviews(first: int) -> tuple[int, ...]:
    """Numbers of trials at which queries are looked at, far beyond any cap."""
    reviews = [first]
    while reviews[-1] < 10**9:
        reviews.append(math.ceil(reviews[-1] * _GROWTH))
    return tuple(reviews)


@lru_cache(maxsize=65536)
def _least_hopeful(prior: ZeroInflatedBeta, quota: int, cap: int, known: int, rule: StoppingRule) -> int:
    """Smallest number of correct among ``known`` trials with which going on is worth it (it only gets better)."""
    low, high = 0, min(quota, known)
    while low < high:
        middle = (low + high) // 2
        belief = prior.after(middle, known)
        if belief.mean * rule.price < 1 and belief.chance(quota - middle, cap - known) < rule.threshold:
            low = middle + 1
        else:
            high = middle
    return low


def unmet_queries(outcomes: Sequence[QueryOutcome], priors: Priors) -> pd.DataFrame:
    """Outcomes below their quota, and what their trials say about going on, the most promising first.

    Columns: query_id, strategy, level, status, quota, correct, trials; ``pass_rate``, the posterior mean, with its 95 %
    ``interval``; ``never``, the probability that the teacher cannot solve the query; ``chance`` that as many trials
    again would meet the quota.
    """
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        if outcome.quota is None or outcome.status == "met":
            continue
        correct, trials, quota = outcome.n_correct, outcome.n_trials, outcome.quota
        belief = priors.of(outcome.level).after(correct, trials)
        row = {name: getattr(outcome, name) for name in ("query_id", "strategy", "level", "status", "quota")}
        row |= {"correct": correct, "trials": trials, "pass_rate": belief.mean, "interval": belief.interval()}
        rows.append(row | {"never": belief.zero, "chance": belief.chance(quota - correct, trials)})
    rows.sort(key=lambda row: -float(str(row["chance"])))
    return pd.DataFrame(rows)
