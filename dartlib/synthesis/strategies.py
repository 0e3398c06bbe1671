"""What the three strategies ask of each query, and the policy that fills one pool for all of them.

Every strategy is a rule on the numbered trials of a query, so one pool serves all: drawing until the most demanding
one is met also covers the others, and each data set is cut from its own prefix by the same policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dartlib.records import STRATEGIES
from dartlib.sampling import Demand
from dartlib.synthesis.allocation import fail_rate, power_quotas, uniform_quotas
from dartlib.synthesis.stopping import PosteriorStopping

SIZE_SETTINGS = {"vrt": "vrt_trials", "uniform": "uniform_quota", "prop2diff": "prop2diff_quota"}


@dataclass(frozen=True, slots=True)
class StrategySettings:
    """How often to ask.

    ``strategies``: any of ``vrt``, ``uniform``, ``prop2diff``. ``difficulty_trials`` (n_d): trials 0..n_d-1 of every
    query measure its fail rate and are used as data too. ``vrt_trials``: trials per query for VRT (52 in the
    paper's code). ``uniform_quota`` k_u (40), ``prop2diff_quota`` k_p (192), ``trial_cap`` n_max (the paper does not
    state the one it used). ``exponent`` beta of ``prop2diff``: its quota is proportional to fail rate ** beta.
    """

    strategies: tuple[str, ...]
    difficulty_trials: int
    vrt_trials: int
    uniform_quota: int
    prop2diff_quota: int
    trial_cap: int
    exponent: float = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.strategies) - set(STRATEGIES))
        if unknown or not self.strategies:
            raise ValueError(f"strategies {list(self.strategies)}: choose from {', '.join(STRATEGIES)}")
        for name in ("difficulty_trials", "vrt_trials", "uniform_quota", "prop2diff_quota", "trial_cap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.fixed_trials > self.trial_cap:
            raise ValueError(
                f"trial_cap is {self.trial_cap}, below the {self.fixed_trials} trials every query gets: raise it"
            )

    def of(self, strategy: str) -> dict[str, object]:
        """The settings that decide this strategy's data set."""
        names = [SIZE_SETTINGS[strategy], "difficulty_trials"]
        names += {"vrt": [], "uniform": ["trial_cap"], "prop2diff": ["exponent", "trial_cap"]}[strategy]
        return {name: getattr(self, name) for name in names}

    @property
    def fixed_trials(self) -> int:
        """Trials that every query gets, whatever their verdicts."""
        return max(self.difficulty_trials, self.vrt_trials if "vrt" in self.strategies else 0)


@dataclass(frozen=True, slots=True)
class StrategyPolicy:
    """The most demanding of the chosen strategies, for the scheduler; and each one's own demand, for the cut.

    ``fail_rates`` measured elsewhere (published pass rates, say) replace the difficulty trials of the queries they
    name. ``stopping`` gives queries up before the cap; ``levels`` choose its populations.
    """

    settings: StrategySettings
    fail_rates: Mapping[str, float] = field(default_factory=dict)
    stopping: PosteriorStopping | None = None
    levels: Mapping[str, int | None] = field(default_factory=dict)

    def fail_rate(self, query_id: str, prefix: Sequence[bool]) -> float | None:
        """The difficulty that decides the query's quota; None while its difficulty trials are not all known.

        It follows from exactly the difficulty trials, once (the paper's rule): later trials never move it.
        """
        given = self.fail_rates.get(query_id)
        if given is not None:
            return given
        n_d = self.settings.difficulty_trials
        return fail_rate(prefix[:n_d]) if len(prefix) >= n_d else None

    def strategy_demand(self, strategy: str, query_id: str, prefix: Sequence[bool]) -> Demand | None:
        """What one strategy asks of a query; None while its difficulty is not known.

        A query that the stopping rule gives up within ``prefix`` has the number of trials at that point as its cap.
        """
        settings = self.settings
        rate = self.fail_rate(query_id, prefix)
        if rate is None:
            return None
        if strategy == "vrt":
            return Demand(trials=settings.vrt_trials, quota=None, cap=max(settings.trial_cap, settings.vrt_trials))
        if strategy == "uniform":
            quota = uniform_quotas({query_id: rate}, k_u=settings.uniform_quota)[query_id]
        else:
            quota = power_quotas({query_id: rate}, k=settings.prop2diff_quota, beta=settings.exponent)[query_id]
        cap = settings.trial_cap
        if self.stopping is not None:
            cap = self.stopping.stops_at(self.levels.get(query_id), quota, cap, prefix) or cap
        return Demand(trials=0, quota=quota, cap=cap)

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        """First the difficulty trials, then as many as the chosen strategies that still run need in all."""
        settings, known = self.settings, len(prefix)
        if self.fail_rate(query_id, prefix) is None:
            return Demand(settings.fixed_trials, None, settings.trial_cap, review=settings.difficulty_trials)
        fixed = settings.fixed_trials
        if query_id in self.fail_rates:
            fixed = settings.vrt_trials if "vrt" in settings.strategies else 0
        correct, quotas = sum(prefix), []
        for strategy in settings.strategies:
            demand = self.strategy_demand(strategy, query_id, prefix)
            if demand is not None and demand.quota is not None and not demand.finished(known, correct):
                quotas.append(demand.quota)
        review = None
        if quotas and self.stopping is not None:
            review = self.stopping.next_review(known)
        return Demand(fixed, max(quotas, default=None), settings.trial_cap, review)
