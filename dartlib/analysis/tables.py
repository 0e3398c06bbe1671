"""Bias statistics as tables: who gets how many responses, at what cost, and what pass rates predict.

Every table has a ``group`` column: the level of a query, or a fail-rate bin where a data set has no levels. A column
``x`` with an interval comes with ``x_low`` and ``x_high``: means over queries carry a bootstrap interval that
resamples queries, shares of queries or items a Wilson interval, both at 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dartlib.records import STRATEGIES, Verdict
from dartlib.statistics import bootstrap_mean_interval, clustered_interval, compare_paired, pass_at_k, wilson_interval

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


def mean_with_band(name: str, values: npt.ArrayLike) -> dict[str, float]:
    low, high = bootstrap_mean_interval(values, seed=_SEED)
    return {name: float(np.asarray(values, dtype=np.float64).mean()), f"{name}_low": low, f"{name}_high": high}


def share_with_band(name: str, successes: int, trials: int) -> dict[str, float]:
    low, high = wilson_interval(successes, trials)
    return {name: successes / trials, f"{name}_low": low, f"{name}_high": high}


def bias_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Per strategy and difficulty group: responses per query, coverage, share of responses, quota and shortfall.

    ``outcomes`` is what read_outcomes or read_dataset gives. Columns: strategy, group, queries, responses; ``mean``
    responses per query; ``share`` of the strategy's responses beside ``query_share``; ``coverage``; ``quota`` and
    ``shortfall`` (means per query, NaN without quotas); ``ended_early`` (queries that an engine or budget stopped).
    """
    import pandas as pd

    frame = outcomes.assign(group=difficulty_groups(outcomes)[0])
    rows: list[dict[str, Any]] = []
    for strategy in strategies_of(frame):
        own = frame[frame["strategy"] == strategy]
        for group, part in own.groupby("group", observed=True):
            counts, quota = part["n_correct"].astype(float), part["quota"].astype(float)
            row = {"strategy": strategy, "group": group, "queries": len(part), "responses": int(counts.sum())}
            row |= mean_with_band("mean", counts) | share_with_band("coverage", int((counts > 0).sum()), len(part))
            row |= {"share": counts.sum() / max(1, own["n_correct"].sum()), "query_share": len(part) / len(own)}
            row |= {"quota": quota.mean(), "shortfall": (quota - counts).clip(lower=0).mean()}
            rows.append(row | {"ended_early": int(part["status"].isin(["stuck", "budget"]).sum())})
    return pd.DataFrame(rows)


def bias_summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row per strategy: size, coverage, Gini, and how far the hardest group is served.

    ``hardest_share`` / ``hardest_query_share``: share of responses and of queries in the hardest group;
    ``achieving_ratio``: share of queries that met their quota (NaN without quotas).
    """
    import pandas as pd

    table, rows = bias_table(outcomes), []
    for strategy in strategies_of(outcomes):
        own = outcomes[outcomes["strategy"] == strategy]
        hardest = table[(table["strategy"] == strategy) & (table["group"].astype(str) != "none")].iloc[-1]
        row: dict[str, Any] = {"strategy": strategy, "queries": len(own), "responses": int(own["n_correct"].sum())}
        row |= share_with_band("coverage", int((own["n_correct"] > 0).sum()), len(own))
        row |= {"gini": gini(own["n_correct"])}
        row |= {"hardest_share": hardest["share"], "hardest_query_share": hardest["query_share"]}
        met = (own["status"] == "met").mean() if own["quota"].notna().any() else np.nan
        rows.append(row | {"achieving_ratio": met})
    return pd.DataFrame(rows)


def gini(counts: npt.ArrayLike) -> float:
    """Gini coefficient of non-negative counts: 0 when all are equal, near 1 when one query has everything."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    if ordered.sum() == 0:
        return 0.0
    n, ranks = len(ordered), np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)


def rank_table(outcomes: pd.DataFrame, samples: pd.DataFrame | None = None) -> pd.DataFrame:
    """Responses per query by difficulty rank, 1 the hardest: strategy, rank, tied_rank, query_id, responses, held_out.

    Difficulty is the fail rate over the difficulty trials. For ``vrt`` those trials are also its data, and ranking by
    them would bend the curve; with ``samples`` its responses are counted over the later trials only and scaled to
    the full number (``held_out`` True). Without fail rates, queries are ranked by their own number of responses.
    Queries of equal difficulty share one ``tied_rank``, the mean of their ranks.
    """
    import pandas as pd

    frames = []
    for strategy in strategies_of(outcomes):
        part = outcomes[outcomes["strategy"] == strategy].assign(held_out=False)
        part["responses"] = part["n_correct"].astype(float)
        if samples is not None and strategy == "vrt" and (part["n_trials"] > part["n_difficulty"]).all():
            part = part.assign(responses=_held_out_responses(part, samples), held_out=True)
        known = part["fail_rate"].notna().any()
        part["difficulty"] = part["fail_rate"] if known else -part["responses"]
        part = part.sort_values(["difficulty", "query_id"], ascending=[False, True])
        tied = part["difficulty"].rank(ascending=False)
        frames.append(part.assign(rank=np.arange(1, len(part) + 1), tied_rank=tied))
    columns = ["strategy", "rank", "tied_rank", "query_id", "responses", "held_out"]
    return pd.concat(frames, ignore_index=True)[columns]


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
    grouped = first.assign(correct=first["verdict"] == Verdict.CORRECT.value).groupby("query_id", sort=True)
    frame = grouped.agg(level=("level", "first"), correct=("correct", "sum"), trials=("trial", "size")).reset_index()
    frame = frame[frame["trials"] == trials].reset_index(drop=True)
    return frame.assign(pass_rate=frame["correct"] / trials, fail_rate=1 - frame["correct"] / trials)


def pass_at_k_table(rates: pd.DataFrame) -> pd.DataFrame:
    """Mean over queries of the unbiased pass@k, per difficulty group and over all: group, k, queries, pass_at_k.

    ``rates`` is a pass_rates table; k runs in powers of two up to its number of trials; k = 1 is the pass rate.
    """
    import pandas as pd

    trials = int(rates["trials"].max())
    parts = [(str(group), part) for group, part in rates.groupby(difficulty_groups(rates)[0], observed=True)]
    rows = []
    for group, part in parts if len(parts) == 1 else [*parts, (ALL, rates)]:
        for k in _powers(1, trials):
            values = [pass_at_k(trials, int(correct), k) for correct in part["correct"]]
            rows.append({"group": group, "k": k, "queries": len(part)} | mean_with_band("pass_at_k", values))
    return pd.DataFrame(rows)


def cost_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Trials by strategy and group: strategy, group, queries, trials, and ``mean`` trials per query.

    The difficulty trials are counted for every strategy that needs them, also where its quota was met earlier.
    """
    needed = outcomes[["n_trials", "n_difficulty"]].max(axis=1)
    spent = outcomes["n_trials"].where(outcomes["strategy"] == "vrt", needed)
    table = bias_table(outcomes.assign(n_correct=spent)).rename(columns={"responses": "trials"})
    return table[["strategy", "group", "queries", "trials", "mean", "mean_low", "mean_high"]]


def achieving_table(outcomes: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Trials and achieving ratio had the cap been lower, from the numbered trials: the paper's figure 4 (3) and (4).

    Columns: strategy, cap, queries, trials, achieving_ratio. Caps run in powers of two from the number of difficulty
    trials to the cap used. Queries that were given up, or that a failing engine or a budget ended early, count as not
    met and drew no more, whatever other strategies found behind.
    """
    import pandas as pd

    correct = samples[samples["verdict"] == Verdict.CORRECT.value].sort_values(["query_id", "trial"])
    correct = correct.assign(found=correct.groupby("query_id").cumcount() + 1)
    rows: list[dict[str, Any]] = []
    for strategy in strategies_of(outcomes[outcomes["quota"].notna()]):
        part = outcomes[outcomes["strategy"] == strategy]
        meeting = correct.merge(part[["query_id", "quota"]], on="query_id")
        last = meeting[meeting["found"] == meeting["quota"]]
        met = part["query_id"].map(dict(zip(last["query_id"], last["trial"] + 1, strict=True)))
        met_at = met.where(part["status"] == "met").fillna(np.inf).to_numpy(dtype=float)
        floor = part["n_difficulty"].to_numpy()
        limit = np.where(part["status"].isin(["stuck", "budget", "given up"]), part["n_trials"], np.inf)
        for cap in _powers(int(floor.max()), int(part["cap"].max())):
            trials = np.minimum(np.minimum(np.maximum(met_at, floor), cap), limit).sum()
            row = {"strategy": strategy, "cap": cap, "queries": len(part), "trials": int(trials)}
            rows.append(row | share_with_band("achieving_ratio", int((met_at <= cap).sum()), len(part)))
    return pd.DataFrame(rows)


def _powers(floor: int, top: int) -> list[int]:
    """Powers of two between two numbers, both ends included."""
    between = {2**power for power in range(top.bit_length()) if floor < 2**power < top}
    return sorted({max(1, floor), top} | between)


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
        total = max(1, sum(counts.values()))
        found = [counts.get(verdict.value, 0) for verdict in Verdict]
        rows += [[stage, v.value, count, count / total] for v, count in zip(Verdict, found, strict=True)]
    return pd.DataFrame(rows, columns=["stage", "verdict", "count", "share"])


def accuracy_table(items: pd.DataFrame, by: Sequence[str] = ("source",)) -> pd.DataFrame:
    """Mean score of the items per group of ``by``, whose values keep their order in ``items``, with a 95 % interval.

    An item's score is the share of its samples that are correct: for single samples the mean is the accuracy and the
    interval Wilson's. Columns: those of ``by``, n (items), correct (samples), accuracy, accuracy_low, accuracy_high.
    """
    import pandas as pd

    scored = items.assign(right=(items["verdict"] == Verdict.CORRECT.value).astype(float))
    rows: list[dict[str, Any]] = []
    for key, group in scored.groupby(list(by), sort=False, dropna=False):
        means = group.groupby("query_id")["right"].mean()
        low, high = clustered_interval(means.to_numpy(), seed=_SEED)
        counts = dict(zip(by, key, strict=True)) | {"n": len(means), "correct": int(group["right"].sum())}
        rows.append(counts | {"accuracy": means.mean(), "accuracy_low": low, "accuracy_high": high})
    return pd.DataFrame(rows)


def accuracy_by_level(items: pd.DataFrame) -> pd.DataFrame:
    """`accuracy_table` by source, model and level (``group``), easiest first, then over all levels (group ``all``)."""
    import pandas as pd

    frame = items.assign(group=difficulty_groups(items)[0]).sort_values("group", kind="stable")
    frame = pd.concat([frame[frame["group"] != ALL], items.assign(group=ALL)])
    return accuracy_table(frame.astype({"group": str}), by=("source", "model", "group"))


def comparison_table(items: pd.DataFrame, pairs: Sequence[tuple[str, str]], source: str) -> pd.DataFrame:
    """Second model minus first on the same items of one source: first, second, items, difference, p_value.

    Interval and p-value as in `compare_paired` (McNemar's exact test for single samples). Raises ValueError when the
    models of a pair answered different items.
    """
    import pandas as pd

    frame = items[items["source"] == source].assign(correct=lambda part: (part["verdict"] == "correct").astype(float))
    wide = frame.pivot_table(index="query_id", columns="model", values="correct")
    rows = []
    for first, second in pairs:
        both = wide[[first, second]]
        if both.isna().any(axis=None):
            raise ValueError(f"{first} and {second} were not asked the same items of {source}")
        result = compare_paired(both[first], both[second], seed=_SEED)
        row = {"source": source, "first": first, "second": second, "items": result.items}
        row |= {"difference": result.difference, "difference_low": result.low, "difference_high": result.high}
        rows.append(row | {"p_value": result.p_value})
    return pd.DataFrame(rows)
