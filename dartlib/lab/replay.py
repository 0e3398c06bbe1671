"""The replay lab: allocation and stopping on recorded pass rates, beside fixed sampling and a clairvoyant.

Recorded counts (a published file, or the user's own pool) become a simulated teacher; every row of the lab's table
takes the same numbered draws. Seconds on a CPU, so a rule can be tried before tokens are spent on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from dartlib.lab.simulation import SimulatedTeacher, cut_by_policy
from dartlib.records import Counts, QueryOutcome
from dartlib.statistics import stop_at_quota_pass_rate
from dartlib.synthesis.difficulty import fit_priors
from dartlib.synthesis.stopping import FIRST_REVIEW, PosteriorStopping, StoppingRule
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings

# The hardest share of the queries, by recorded pass rate, on which yield and coverage are judged.
HARDEST_SHARE = 0.2


def replay_teacher(
    recorded: Mapping[str, Counts] | Iterable[QueryOutcome], *, trials: int, seed: int
) -> SimulatedTeacher:
    """A teacher with each query's recorded pass rate, taken as the truth (a never-solved query stays so).

    ``recorded``: counts over numbers of trials that were fixed beforehand; or the outcomes of a synthesis.
    """
    if isinstance(recorded, Mapping):
        rates = {query_id: count.correct / count.trials for query_id, count in recorded.items()}
    else:
        rates = pass_rates_of(recorded)
    return SimulatedTeacher(rates, trials, seed)


def pass_rates_of(outcomes: Iterable[QueryOutcome]) -> dict[str, float]:
    """Pass rate of each query, from the strategy that counted most of its trials, or from the difficulty trials.

    Trials that ended at a quota are judged as such: the plain share of correct ones would be too high. Queries without
    any trial are left out, and those of which only a quota of 1 is known.
    """
    rates: dict[str, float] = {}
    most: dict[str, int] = {}
    for outcome in outcomes:
        correct, trials, quota = outcome.n_correct, outcome.n_trials, outcome.quota
        if outcome.n_difficulty >= trials or quota == 1:
            correct, trials, quota = outcome.n_difficulty_correct, outcome.n_difficulty, None
        if trials > most.get(outcome.query_id, 0):
            rate = correct / trials if quota is None else stop_at_quota_pass_rate(correct, trials, quota)
            if rate is not None:
                rates[outcome.query_id], most[outcome.query_id] = rate, trials
    return rates


@dataclass(frozen=True, slots=True)
class Judgement:
    """One stopping rule on the same numbered draws: its cost, and the three things it may cost in quality.

    ``hard_correct`` and ``hard_coverage`` (share with a correct response) are over the hardest queries.
    """

    trials: int
    achieving_ratio: float
    hard_correct: int
    hard_coverage: float


def judge(counted: Mapping[str, Counts], quotas: Mapping[str, int], hardest: Sequence[str]) -> Judgement:
    """Judge a finished run by what it ``counted`` per query.

    ``hardest`` names the hardest queries by their true pass rate, or by trials that are not part of the run.
    """
    correct = [counted[query_id].correct for query_id in hardest]
    return Judgement(
        trials=sum(count.trials for count in counted.values()),
        achieving_ratio=sum(count.correct >= quotas[name] for name, count in counted.items()) / len(counted),
        hard_correct=sum(correct),
        hard_coverage=sum(found > 0 for found in correct) / len(hardest),
    )


def replay_table(
    teacher: SimulatedTeacher, settings: StrategySettings, rules: Mapping[str, StoppingRule | None]
) -> pd.DataFrame:
    """Each stopping rule (None: the cap alone) on one strategy, on the same draws; one row per rule.

    Besides the three axes: share of the trials spent on queries the teacher never solves; ``against_fixed``, trials
    over those of the smallest equal number per query that reaches the same achieving ratio; ``against_clairvoyant``,
    trials over those of one who gets the same responses and never asks behind a query's last correct one. Raises
    ValueError unless ``settings`` names exactly one strategy with quotas.
    """
    if len(settings.strategies) != 1 or settings.strategies[0] == "vrt":
        raise ValueError(
            f"strategies {list(settings.strategies)}: the lab compares rules for one of uniform, prop2diff"
        )
    difficulty = {
        query_id: Counts(sum(verdicts[: settings.difficulty_trials]), settings.difficulty_trials)
        for query_id, verdicts in teacher.verdicts.items()
    }
    priors = fit_priors(difficulty, {})
    quotas = quotas_of(teacher, settings)
    by_rate = sorted(teacher.pass_rates, key=teacher.pass_rates.__getitem__)
    hardest = by_rate[: max(1, round(HARDEST_SHARE * len(quotas)))]
    rows = []
    for name, rule in rules.items():
        first = max(settings.difficulty_trials, FIRST_REVIEW)
        stopping = None if rule is None else PosteriorStopping(rule, priors, first)
        counted = cut_by_policy(teacher, StrategyPolicy(settings, stopping=stopping))
        verdict = judge(counted, quotas, hardest)
        never = sum(counted[query_id].trials for query_id, rate in teacher.pass_rates.items() if rate == 0)
        fixed = smallest_fixed(teacher, quotas, verdict.achieving_ratio)
        row = {"rule": name, **asdict(verdict), "never_solved_share": never / verdict.trials}
        row |= {"against_fixed": verdict.trials / (fixed * len(quotas)) if fixed else float("nan")}
        rows.append(row | {"against_clairvoyant": verdict.trials / clairvoyant_trials(teacher, counted)})
    return pd.DataFrame(rows).set_index("rule")


def quotas_of(teacher: SimulatedTeacher, settings: StrategySettings) -> dict[str, int]:
    """The one strategy's quota of every query, from the teacher's first draws."""
    policy, (strategy,) = StrategyPolicy(settings), settings.strategies
    quotas = {}
    for query_id, verdicts in teacher.verdicts.items():
        prefix = [verdict == 1 for verdict in verdicts[: settings.difficulty_trials]]
        demand = policy.strategy_demand(strategy, query_id, prefix)
        quotas[query_id] = demand.quota or 0 if demand else 0
    return quotas


def smallest_fixed(teacher: SimulatedTeacher, quotas: Mapping[str, int], achieving_ratio: float) -> int | None:
    """Smallest equal number of trials per query that reaches the achieving ratio; None if the draws do not."""
    needed = []
    for query_id, verdicts in teacher.verdicts.items():
        right = np.flatnonzero(np.frombuffer(verdicts, np.uint8))
        needed.append(int(right[quotas[query_id] - 1]) + 1 if quotas[query_id] <= len(right) else None)
    met = sorted(trials for trials in needed if trials is not None)
    wanted = round(achieving_ratio * len(needed))
    return met[wanted - 1] if 0 < wanted <= len(met) else None


def clairvoyant_trials(teacher: SimulatedTeacher, counted: Mapping[str, Counts]) -> int:
    """Trials up to the last correct one of every query: the same responses without a wasted wrong tail."""
    return sum(teacher.verdicts[name].rfind(b"\x01", 0, count.trials) + 1 for name, count in counted.items())
