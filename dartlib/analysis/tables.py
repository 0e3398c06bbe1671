"""Bias statistics as tables: who gets how many responses, at what cost, and what pass rates predict.

Every table has a ``group`` column: the level of a query, or a fail-rate bin where a data set has no levels. Means
over queries carry a bootstrap interval that resamples queries; shares of queries carry a Wilson interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, lgamma
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dartlib.records import STRATEGIES, Verdict
from dartlib.statistics import bootstrap_interval, fit_beta, pass_at_k, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

BINS = ("0–0.2", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1")
ALL = "all"
_SEED = 0  # of the bootstrap: the same figure from the same numbers


def difficulty_groups(frame: pd.DataFrame) -> tuple[pd.Series, str]:
    """Per row a difficulty group, easiest first, and the name of that axis.

    Levels where the rows have them (rows without one form ``none``); else five fail-rate bins; else one group.
    """
    import pandas as pd

    levels = frame["level"] if "level" in frame else pd.Series(np.nan, index=frame.index)
    if levels.notna().any():
        names = [str(int(level)) for level in sorted(levels.dropna().unique())]
        labels = levels.map(lambda level: "none" if pd.isna(level) else str(int(level))).astype(str)
        return labels.astype(pd.CategoricalDtype([*names, *(["none"] if levels.isna().any() else [])], True)), "level"
    if "fail_rate" in frame and frame["fail_rate"].notna().any():
        # a hair is added because 0.6 * 5 is 2.9999… for a fail rate of 1 - 0.4
        place = (frame["fail_rate"].fillna(1.0) * 5 + 1e-9).clip(0, 4).astype(int)
        bins = place.map(lambda index: BINS[index]).astype(pd.CategoricalDtype(list(BINS), ordered=True))
        return bins, "fail rate"
    return pd.Series(pd.Categorical([ALL] * len(frame), [ALL], ordered=True), index=frame.index), "queries"


def strategies_of(frame: pd.DataFrame) -> list[str]:
    """The strategies in a frame: vrt, uniform, prop2diff first, then other data sets by name."""
    found = set(frame["strategy"])
    return [name for name in STRATEGIES if name in found] + sorted(found - set(STRATEGIES))


def _by_strategy_and_group(frame: pd.DataFrame) -> Iterator[tuple[str, Any, pd.DataFrame]]:
    for strategy in strategies_of(frame):
        for group, part in frame[frame["strategy"] == strategy].groupby("group", observed=True, sort=True):
            yield strategy, group, part


def bias_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Per strategy and difficulty group: responses per query, coverage, share of responses, quota and shortfall.

    ``outcomes`` is what read_outcomes or read_dataset gives. Columns: strategy, group, queries, responses, mean, low,
    high (responses per query), share (of the strategy's responses), query_share, covered, coverage, coverage_low,
    coverage_high, quota and shortfall (means per query; NaN without a quota), ``ended_early`` (queries below their
    quota for another reason than the cap).
    """
    import pandas as pd

    frame = outcomes.assign(group=difficulty_groups(outcomes)[0])
    totals: dict[Any, int] = frame.groupby("strategy")["n_correct"].sum().to_dict()
    sizes: dict[Any, int] = frame.groupby("strategy")["n_correct"].size().to_dict()
    rows = []
    for strategy, group, part in _by_strategy_and_group(frame):
        counts = part["n_correct"].to_numpy(dtype=float)
        quota = part["quota"].astype(float)
        covered = int((counts > 0).sum())
        low, high = bootstrap_interval(counts, _mean, seed=_SEED)
        coverage_low, coverage_high = wilson_interval(covered, len(part))
        rows.append(
            {
                "strategy": strategy,
                "group": group,
                "queries": len(part),
                "responses": int(counts.sum()),
                "mean": counts.mean(),
                "low": low,
                "high": high,
                "share": counts.sum() / totals[strategy] if totals[strategy] else 0.0,
                "query_share": len(part) / sizes[strategy],
                "covered": covered,
                "coverage": covered / len(part),
                "coverage_low": coverage_low,
                "coverage_high": coverage_high,
                "quota": quota.mean(),
                "shortfall": (quota - counts).clip(lower=0).mean(),
                "ended_early": int(part["status"].isin(["stuck", "budget"]).sum()),
            }
        )
    return pd.DataFrame(rows)


def bias_summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row per strategy: size, coverage with its interval, Gini, and how far the hardest group is served.

    ``hardest_share`` / ``hardest_query_share``: share of responses and of queries in the hardest group;
    ``achieving_ratio``: share of queries that met their quota (NaN without quotas).
    """
    import pandas as pd

    rows = []
    table = bias_table(outcomes)
    for strategy in strategies_of(outcomes):
        part = table[table["strategy"] == strategy]
        own = outcomes[outcomes["strategy"] == strategy]
        covered = int((own["n_correct"] > 0).sum())
        low, high = wilson_interval(covered, len(own))
        with_level = part[part["group"].astype(str) != "none"]
        rows.append(
            {
                "strategy": strategy,
                "queries": len(own),
                "responses": int(own["n_correct"].sum()),
                "responses_per_query": own["n_correct"].mean(),
                "coverage": covered / len(own),
                "coverage_low": low,
                "coverage_high": high,
                "gini": gini(own["n_correct"].to_numpy(dtype=float)),
                "hardest_share": with_level["share"].iloc[-1],
                "hardest_query_share": with_level["query_share"].iloc[-1],
                "achieving_ratio": (own["status"] == "met").mean() if own["quota"].notna().any() else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def gini(counts: npt.ArrayLike) -> float:
    """Gini coefficient of non-negative counts: 0 when all are equal, near 1 when one query has everything."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    if len(ordered) == 0 or ordered[0] < 0:
        raise ValueError("gini needs at least one count and none below 0")
    if ordered.sum() == 0:
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


def rank_table(outcomes: pd.DataFrame, samples: pd.DataFrame | None = None) -> pd.DataFrame:
    """Responses per query by difficulty rank, 1 the hardest: columns strategy, rank, query_id, responses, held_out.

    Difficulty is the fail rate over the difficulty trials. For ``vrt`` those trials are also its data, and ranking by
    them would bend the curve; with ``samples`` its responses are counted over the later trials only and scaled to
    the full number (``held_out`` True). Without fail rates, queries are ranked by their own number of responses.
    """
    import pandas as pd

    frames = []
    for strategy in strategies_of(outcomes):
        part = outcomes[outcomes["strategy"] == strategy]
        responses, held_out = part["n_correct"].astype(float), False
        if samples is not None and strategy == "vrt" and (part["n_trials"] > part["n_difficulty"]).all():
            responses, held_out = _held_out_responses(part, samples), True
        known = part["fail_rate"].notna().any()
        keys = pd.DataFrame(
            {"difficulty": part["fail_rate"] if known else -responses, "query_id": part["query_id"], "value": responses}
        ).sort_values(["difficulty", "query_id"], ascending=[False, True])
        frames.append(
            pd.DataFrame(
                {
                    "strategy": strategy,
                    "rank": np.arange(1, len(part) + 1),
                    "query_id": keys["query_id"].to_numpy(),
                    "responses": keys["value"].to_numpy(),
                    "held_out": held_out,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _held_out_responses(part: pd.DataFrame, samples: pd.DataFrame) -> pd.Series:
    """Correct VRT trials behind the difficulty trials, scaled to all trials; aligned with ``part``."""
    joined = samples.merge(part[["query_id", "n_trials", "n_difficulty"]], on="query_id")
    later = joined[(joined["trial"] >= joined["n_difficulty"]) & (joined["trial"] < joined["n_trials"])]
    correct = (later["verdict"] == Verdict.CORRECT.value).groupby(later["query_id"]).sum()
    scale = part["n_trials"] / (part["n_trials"] - part["n_difficulty"])
    held_out: pd.Series = part["query_id"].map(correct).fillna(0).astype(float) * scale
    return held_out


def pass_rates(samples: pd.DataFrame, trials: int) -> pd.DataFrame:
    """Pass rate of each query over its trials 0..trials-1: columns query_id, level, correct, trials, pass_rate.

    The number of trials is fixed: all trials of a query sampled until a quota would overstate its pass rate. Queries
    with fewer trials are left out.
    """
    first = samples[samples["trial"] < trials]
    correct = first["verdict"] == Verdict.CORRECT.value
    rates = first.assign(correct=correct).groupby("query_id", sort=True)
    frame = rates.agg(level=("level", "first"), correct=("correct", "sum"), trials=("trial", "size")).reset_index()
    frame = frame[frame["trials"] == trials].reset_index(drop=True)
    return frame.assign(pass_rate=frame["correct"] / trials, fail_rate=1 - frame["correct"] / trials)


def pass_rate_table(rates: pd.DataFrame) -> pd.DataFrame:
    """Mean pass rate per difficulty group of a pass_rates table: group, queries, pass_rate, low, high.

    The interval is a bootstrap over queries: trials of one query are alike, so a binomial interval over all trials
    would be far too narrow.
    """
    import pandas as pd

    rows = []
    for group, part in rates.groupby(difficulty_groups(rates)[0], observed=True):
        low, high = bootstrap_interval(part["pass_rate"], _mean, seed=_SEED)
        rows.append([group, len(part), part["pass_rate"].mean(), low, high])
    return pd.DataFrame(rows, columns=["group", "queries", "pass_rate", "low", "high"])


def pass_at_k_table(rates: pd.DataFrame) -> pd.DataFrame:
    """Mean over queries of the unbiased pass@k, per difficulty group and over all: group, k, queries, value, low, high.

    ``rates`` is a pass_rates table; k runs in powers of two up to its number of trials. Intervals resample queries.
    """
    import pandas as pd

    trials = int(rates["trials"].max())
    parts = [(str(group), part) for group, part in rates.groupby(difficulty_groups(rates)[0], observed=True)]
    rows = []
    for group, part in parts if len(parts) == 1 else [*parts, (ALL, rates)]:
        for k in _caps(1, trials):
            values = [pass_at_k(trials, int(correct), k) for correct in part["correct"]]
            low, high = bootstrap_interval(values, _mean, seed=_SEED)
            rows.append([group, k, len(part), float(np.mean(values)), low, high])
    return pd.DataFrame(rows, columns=["group", "k", "queries", "value", "low", "high"])


def vrt_prediction_table(samples: pd.DataFrame, trials: int) -> pd.DataFrame:
    """VRT as pass rates alone predict it, against what it is: the first half of its trials predicts the rest.

    Columns: group, queries, n (trials checked per query); ``responses`` measured per query with low and high, and
    ``predicted`` n·p; ``coverage`` measured with coverage_low and coverage_high; ``coverage_one_rate`` 1-(1-p)^n as
    if every query of the group had its mean p; ``coverage_spread`` the same averaged over a beta population of p.
    Groups are levels; queries without any form one group, because bins by the first half would regress to the mean.
    Raises ValueError for fewer than 2 trials.
    """
    import pandas as pd

    half, n = trials // 2, trials - trials // 2
    if half < 1:
        raise ValueError(f"a prediction needs at least 2 trials per query, got {trials}")
    first = pass_rates(samples, half).set_index("query_id")
    everything = pass_rates(samples, trials).set_index("query_id")
    first = first.loc[everything.index]
    later = everything["correct"] - first["correct"]
    rows = []
    for group, part in first.groupby(difficulty_groups(first[["level"]])[0], observed=True):
        measured = later[part.index].to_numpy(dtype=float)
        low, high = bootstrap_interval(measured, _mean, seed=_SEED)
        covered, p = int((measured > 0).sum()), part["pass_rate"].mean()
        a, b = fit_beta(part["correct"].astype(int).tolist(), part["trials"].astype(int).tolist())
        none_correct = exp(lgamma(a + b) - lgamma(b) + lgamma(b + n) - lgamma(a + b + n))
        row: dict[str, Any] = {"group": group, "queries": len(part), "n": n, "responses": measured.mean()}
        row |= {"low": low, "high": high, "predicted": n * p, "coverage": covered / len(part)}
        row["coverage_low"], row["coverage_high"] = wilson_interval(covered, len(part))
        rows.append(row | {"coverage_one_rate": 1 - (1 - p) ** n, "coverage_spread": 1 - none_correct})
    return pd.DataFrame(rows)


def cost_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Trials per query by strategy and group: strategy, group, queries, trials, mean, low, high.

    The difficulty trials are counted for every strategy that needs them, also where its quota was met earlier.
    """
    import pandas as pd

    needed = outcomes[["n_trials", "n_difficulty"]].max(axis=1)
    spent = outcomes["n_trials"].where(outcomes["strategy"] == "vrt", needed)
    frame = outcomes.assign(group=difficulty_groups(outcomes)[0], spent=spent.astype(float))
    rows = []
    for strategy, group, part in _by_strategy_and_group(frame):
        low, high = bootstrap_interval(part["spent"], _mean, seed=_SEED)
        rows.append([strategy, group, len(part), int(part["spent"].sum()), part["spent"].mean(), low, high])
    return pd.DataFrame(rows, columns=["strategy", "group", "queries", "trials", "mean", "low", "high"])


def achieving_table(outcomes: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Trials and achieving ratio had the cap been lower, from the numbered trials: the paper's figure 4 (3) and (4).

    Columns: strategy, cap, queries, trials, achieving_ratio, low, high. Caps run in powers of two from the number of
    difficulty trials to the cap used. Queries that a failing engine or a budget ended early count as not met.
    """
    import pandas as pd

    correct = samples[samples["verdict"] == Verdict.CORRECT.value].sort_values(["query_id", "trial"])
    correct = correct.assign(found=correct.groupby("query_id").cumcount() + 1)
    rows = []
    for strategy in strategies_of(outcomes[outcomes["quota"].notna()]):
        part = outcomes[outcomes["strategy"] == strategy]
        meeting = correct.merge(part[["query_id", "quota"]], on="query_id")
        last = meeting[meeting["found"] == meeting["quota"]]
        met = part["query_id"].map(dict(zip(last["query_id"], last["trial"] + 1, strict=True)))
        met_at = met.fillna(np.inf).to_numpy(dtype=float)
        floor, top = int(part["n_difficulty"].max()), int(part["cap"].max())
        drawn = part["n_trials"].to_numpy(dtype=float)
        early = part["status"].isin(["stuck", "budget"]).to_numpy()
        for cap in _caps(floor, top):
            needed = np.minimum(np.maximum(met_at, floor), cap)
            n_met = int((met_at <= cap).sum())
            low, high = wilson_interval(n_met, len(part))
            trials = int(np.where(early, np.minimum(needed, drawn), needed).sum())
            rows.append([strategy, cap, len(part), trials, n_met / len(part), low, high])
    return pd.DataFrame(rows, columns=["strategy", "cap", "queries", "trials", "achieving_ratio", "low", "high"])


def _caps(floor: int, top: int) -> list[int]:
    """Powers of two between two numbers, both ends included."""
    caps = {max(1, floor), top}
    power = 1
    while power < top:
        if power > floor:
            caps.add(power)
        power *= 2
    return sorted(caps)


def verdict_table(stages: dict[str, pd.DataFrame], errors: dict[str, int] | None = None) -> pd.DataFrame:
    """Counts of all five verdicts per stage: stage, verdict, count, share. ``errors`` come from attempt logs.

    Raises ValueError for a verdict that is none of the five.
    """
    import pandas as pd

    rows = []
    for stage, frame in stages.items():
        counts = frame["verdict"].value_counts().to_dict()
        unknown = set(counts) - {verdict.value for verdict in Verdict}
        if unknown:
            raise ValueError(f"{stage}: unknown verdict {sorted(map(str, unknown))[0]!r}")
        counts[Verdict.ERROR.value] = counts.get(Verdict.ERROR.value, 0) + (errors or {}).get(stage, 0)
        total = sum(counts.values())
        for verdict in Verdict:
            count = int(counts.get(verdict.value, 0))
            rows.append([stage, verdict.value, count, count / total if total else 0.0])
    return pd.DataFrame(rows, columns=["stage", "verdict", "count", "share"])


def accuracy_table(items: pd.DataFrame) -> pd.DataFrame:
    """Accuracy per model, source and level, and over all levels (group ``all``), with Wilson intervals.

    ``items`` is what read_items gives; columns: model, source, group, n, correct, accuracy, low, high.
    """
    import pandas as pd

    frame = items.assign(group=difficulty_groups(items)[0].astype(str), correct=items["verdict"] == "correct")
    rows = []
    for (model, source), part in frame.groupby(["model", "source"], sort=False):
        groups: list[tuple[Any, pd.DataFrame]] = sorted(part.groupby("group"), key=lambda pair: str(pair[0]))
        whole = [] if len(groups) == 1 and groups[0][0] == ALL else [(ALL, part)]
        for group, members in [*groups, *whole]:
            correct = int(members["correct"].sum())
            low, high = wilson_interval(correct, len(members))
            rows.append([model, source, group, len(members), correct, correct / len(members), low, high])
    return pd.DataFrame(rows, columns=["model", "source", "group", "n", "correct", "accuracy", "low", "high"])


def headline_table(items: pd.DataFrame) -> pd.DataFrame:
    """Accuracy over all levels per source and model, in percent with its interval: the table under the figures."""
    table = accuracy_table(items)
    whole = table[table["group"] == ALL]
    percent = whole.assign(**{name: 100 * whole[name] for name in ("accuracy", "low", "high")})
    percent = percent.sort_values("source", kind="stable", ignore_index=True)  # models stay in their order
    return percent[["source", "model", "n", "correct", "accuracy", "low", "high"]]


def comparison_table(items: pd.DataFrame, pairs: Sequence[tuple[str, str]], source: str) -> pd.DataFrame:
    """Second model minus first on the same items of one source: first, second, items, difference, low, high, p_value.

    Intervals resample items; p-values are exact McNemar tests. Raises ValueError when the models of a pair answered
    different items.
    """
    import pandas as pd

    from dartlib.statistics import compare_paired

    frame = items[items["source"] == source].assign(correct=lambda part: part["verdict"] == "correct")
    wide = frame.pivot(index="query_id", columns="model", values="correct")
    rows = []
    for first, second in pairs:
        both = wide[[first, second]]
        if both.isna().any(axis=None):
            raise ValueError(f"{first} and {second} were not asked the same items of {source}")
        result = compare_paired(both[first].astype(float), both[second].astype(float), seed=_SEED)
        rows.append([first, second, result.items, result.difference, result.low, result.high, result.p_value])
    columns = ["first", "second", "items", "difference", "low", "high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def _mean(rows: npt.NDArray[np.float64]) -> float:
    return float(rows.mean())
