"""What the three strategies ask of each query, and the policy that fills one pool for all of them.

Every strategy is a rule on the numbered trials of a query, so one pool serves all: drawing until the most demanding
one is met also covers the others, and each data set is cut from its own prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dartlib.records import STRATEGIES
from dartlib.sampling import Demand
from dartlib.synthesis.allocation import fail_rate, prop2diff_quotas, uniform_quotas


@dataclass(frozen=True, slots=True)
class StrategySettings:
    """How often to ask.

    ``strategies``: any of ``vrt``, ``uniform``, ``prop2diff``. ``difficulty_trials`` (n_d): trials 0..n_d-1 of every
    query measure its fail rate and are used as data too. ``vrt_trials``: trials per query for VRT (52 in the
    paper's code). ``uniform_quota`` k_u (40), ``prop2diff_quota`` k_p (192), ``trial_cap`` n_max (the paper does not
    state the one it used).
    """

    strategies: tuple[str, ...]
    difficulty_trials: int
    vrt_trials: int
    uniform_quota: int
    prop2diff_quota: int
    trial_cap: int

    def __post_init__(self) -> None:
        unknown = sorted(set(self.strategies) - set(STRATEGIES))
        if unknown or not self.strategies:
            raise ValueError(f"strategies {list(self.strategies)}: choose from {', '.join(STRATEGIES)}")
        for name in ("difficulty_trials", "vrt_trials", "uniform_quota", "prop2diff_quota", "trial_cap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        fixed = max(self.difficulty_trials, self.vrt_trials if "vrt" in self.strategies else 0)
        if fixed > self.trial_cap:
            raise ValueError(f"trial_cap is {self.trial_cap}, below the {fixed} trials every query gets: raise it")


def strategy_demand(strategy: str, settings: StrategySettings, difficulty_verdicts: Sequence[bool]) -> Demand:
    """What one strategy asks of a query whose difficulty trials are known.

    The quota follows from the fail rate over exactly the difficulty trials, once (the paper's rule); it never moves
    with later trials.
    """
    if strategy == "vrt":
        return Demand(trials=settings.vrt_trials, quota=None, cap=max(settings.trial_cap, settings.vrt_trials))
    rate = fail_rate(difficulty_verdicts)
    if strategy == "uniform":
        quota = uniform_quotas({"query": rate}, k_u=settings.uniform_quota)["query"]
    else:
        quota = prop2diff_quotas({"query": rate}, k_p=settings.prop2diff_quota)["query"]
    return Demand(trials=0, quota=quota, cap=settings.trial_cap)


class StrategyPolicy:
    """The most demanding of the chosen strategies, for the scheduler."""

    def __init__(self, settings: StrategySettings) -> None:
        self._settings = settings

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        """First the difficulty trials, then as many as the chosen strategies need in all."""
        settings = self._settings
        n_d = settings.difficulty_trials
        fixed = max(n_d, settings.vrt_trials if "vrt" in settings.strategies else 0)
        if len(prefix) < n_d:
            return Demand(trials=fixed, quota=None, cap=settings.trial_cap)
        demands = [strategy_demand(strategy, settings, prefix[:n_d]) for strategy in settings.strategies]
        quotas = [demand.quota for demand in demands if demand.quota is not None]
        return Demand(trials=fixed, quota=max(quotas, default=None), cap=settings.trial_cap)
