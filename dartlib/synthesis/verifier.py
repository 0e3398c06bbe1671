"""How many accepted responses are truly right, by difficulty: what a verifier's errors do to hard queries.

A verifier that wrongly accepts even 1 % of wrong answers hardly matters where most answers are right, and fills the
data of a query that is almost never solved. From A accepted of T trials, with recall r (right answers that are
accepted) and false acceptance q (wrong answers that are accepted), the number of right trials R follows from
A = r R + q (T - R), and the share of accepted ones that are right is r R / A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dartlib.records import QueryOutcome
from dartlib.statistics import bootstrap_interval

WIDEST_TOLD = 0.5  # an estimate with a wider interval than this says nothing
FAIL_RATE_BINS = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
ASSUMPTIONS = (
    "assuming that the verifier errs on these responses as it did on the labelled ones of its card, equally often at "
    "every difficulty and independently between trials; bins are made from difficulty trials that are counted too"
)


@dataclass(frozen=True, slots=True)
class VerifierCard:
    """What was measured of the verifier on labelled responses: shares in [0, 1], each (estimate, low, high).

    ``right_share`` is the share of those responses that are truly right: precision says nothing without it.
    """

    precision: tuple[float, float, float]
    recall: tuple[float, float, float]
    right_share: float
    source: str

    def __post_init__(self) -> None:
        for name, (value, low, high) in (("precision", self.precision), ("recall", self.recall)):
            if not 0 <= low <= value <= high <= 1 or low == 0:
                raise ValueError(f"{name} is {value} ({low} to {high}): shares with 0 < low <= estimate <= high <= 1")
        if not 0 < self.right_share < 1:
            raise ValueError(
                f"right_share is {self.right_share}: the labelled responses must hold right and wrong ones"
            )

    def false_acceptance(self, precision: float, recall: float) -> float:
        """Share of wrong answers that are accepted.

        >>> card = VerifierCard((0.99, 0.98, 1.0), (0.9, 0.85, 0.95), 0.5, "by hand")
        >>> round(card.false_acceptance(0.9, 0.9), 6)  # of 100: 45 of 50 right ones accepted, 50 in all, so 5 of 50
        0.1
        """
        return min(1.0, recall * self.right_share * (1 - precision) / precision / (1 - self.right_share))


# Of this package's grader, on greedy responses of eight models to hard MATH problems (tests/verifier_card.csv).
MEASURED_VERIFIER = VerifierCard(
    precision=(1.0, 0.9665, 1.0),
    recall=(0.9938, 0.9512, 0.9984),
    right_share=0.2306,
    source="the verifier card (300 responses of eight models to MATH level 5, read twice by language models)",
)


class RightShare(NamedTuple):
    """Estimated share of truly right responses among the accepted ones of one bin, with a 95 % interval."""

    low_fail_rate: float
    high_fail_rate: float
    queries: int
    trials: int
    accepted: int
    share: float
    low: float
    high: float


def right_share(accepted: float, trials: float, recall: float, false_acceptance: float) -> float:
    """r R / A, within [0, 1]; 0 where a verifier as wrong as that would accept so many by error alone.

    >>> round(right_share(accepted=46, trials=100, recall=0.9, false_acceptance=0.01), 4)  # R = 45 / 0.89
    0.9893
    >>> right_share(accepted=1, trials=100, recall=0.9, false_acceptance=0.01)
    0.0
    """
    if recall <= false_acceptance:
        return 0.0
    right = (accepted - false_acceptance * trials) / (recall - false_acceptance)
    return min(1.0, max(0.0, recall * right / accepted))


def right_shares(outcomes: Sequence[QueryOutcome], card: VerifierCard, *, seed: int = 0) -> list[RightShare]:
    """Per bin of fail rates, the estimated share of truly right rows; bins without rows are left out.

    The interval joins two sources of doubt at their ends: queries (bootstrap) and the verifier's own intervals. So
    it is wider than 95 % would need.
    """
    found = []
    for low, high in zip(FAIL_RATE_BINS, FAIL_RATE_BINS[1:], strict=False):
        last = high == FAIL_RATE_BINS[-1]
        group = [one for one in outcomes if low <= one.fail_rate < high or (last and one.fail_rate == high)]
        counts = np.array([(one.n_correct, one.n_trials) for one in group], dtype=np.float64).reshape(-1, 2)
        accepted, trials = counts.sum(axis=0)
        if accepted:
            share = _share(counts, card, card.precision[0], card.recall[0])
            bounds = [_bounds(counts, card, end, seed) for end in (1, 2)]
            found.append(
                RightShare(low, high, len(group), int(trials), int(accepted), share, bounds[0][0], bounds[1][1])
            )
    return found


def _bounds(counts: np.ndarray, card: VerifierCard, end: int, seed: int) -> tuple[float, float]:
    """Bootstrap interval with the verifier at the low (1) or high (2) end of its own precision interval.

    A lower precision with a higher recall means more false acceptance: the two ends that bound the share.
    """
    precision, recall = card.precision[end], card.recall[3 - end]
    return bootstrap_interval(counts, lambda rows: _share(rows, card, precision, recall), seed=seed, resamples=500)


def _share(counts: np.ndarray, card: VerifierCard, precision: float, recall: float) -> float:
    accepted, trials = counts.sum(axis=0)
    if not accepted:
        return 0.0  # a resample without rows: nothing right among nothing
    return right_share(float(accepted), float(trials), recall, card.false_acceptance(precision, recall))


def right_share_table(shares: Sequence[RightShare]) -> str:
    """The same as a Markdown table for a data card."""
    lines = [
        "| fail rate | queries | trials | responses | truly right (95 % interval) |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in shares:
        told = f"{one.share:.1%} ({one.low:.1%} to {one.high:.1%})"
        if one.high - one.low > WIDEST_TOLD:
            told = f"not known: anything from {one.low:.1%} to {one.high:.1%}"
        bin_name = f"{one.low_fail_rate:g} to {one.high_fail_rate:g}"
        lines.append(f"| {bin_name} | {one.queries} | {one.trials} | {one.accepted} | {told} |")
    return "\n".join(lines)
