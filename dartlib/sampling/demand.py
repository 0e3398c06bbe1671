"""What a policy asks of each query, and what may be spent in all.

A demand is told in numbered trials, never in time, so that a finished data set cannot depend on when replies came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Demand:
    """What a query still has to deliver.

    ``trials`` numbered trials are drawn whatever their verdicts; after that, trials go on until ``quota`` correct
    ones are found (None: no quota) or ``cap`` trials are drawn. When ``review`` trials are known, the policy is
    asked again (None: never).
    """

    trials: int
    quota: int | None
    cap: int
    review: int | None = None

    def __post_init__(self) -> None:
        if self.trials > self.cap:
            raise ValueError(f"{self.trials} fixed trials do not fit under the cap of {self.cap}: raise the cap")

    def finished(self, known: int, correct: int) -> bool:
        """True at the first prefix of ``known`` trials, ``correct`` of them correct, that delivers everything."""
        if known < self.trials:
            return False
        return not self.quota or correct >= self.quota or known >= self.cap


class Policy(Protocol):
    """How much to ask of each query. ``demand`` sees the verdicts of the contiguous prefix, oldest first."""

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        """The demand given exactly this prefix: the empty one first, then each that a demand wants to review."""
        ...


class ConstantPolicy:
    """Demands that no verdict changes: the same ``trials`` and ``quota`` for all, or by query; one ``cap``."""

    def __init__(
        self, cap: int, *, trials: int | Mapping[str, int] = 0, quota: int | Mapping[str, int] | None = None
    ) -> None:
        self._cap, self._trials, self._quota = cap, trials, quota

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        """The query's demand, whatever the prefix."""
        trials = self._trials if isinstance(self._trials, int) else self._trials[query_id]
        quota = self._quota[query_id] if isinstance(self._quota, Mapping) else self._quota
        return Demand(trials, quota, self._cap)


def meeting_index(prefix: Sequence[bool], demand: Demand) -> int | None:
    """Index of the trial at which a query is finished, None while it is not.

    The later of: the last fixed trial, and the trial that brings the quota (or the last one under the cap).
    """
    found = 0
    for known in range(len(prefix) + 1):
        if demand.finished(known, found):
            return known - 1
        found += prefix[known] if known < len(prefix) else 0
    return None


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop asking even though queries are unfinished; None: no limit.

    ``tokens`` counts all response tokens in the pool, also those of earlier calls; ``hours`` the time of this call.
    What is in flight is awaited (and foreseen for tokens), so that no response is lost for being long.
    """

    tokens: int | None = None
    hours: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("tokens", self.tokens), ("hours", self.hours)):
            if limit is not None and limit <= 0:
                raise ValueError(f"a budget of {limit} {name} allows nothing: raise it, or give none")
