"""What a data set is made of, by difficulty group: responses, characters, tokens and repeats, with bands over queries.

The bootstrap resamples queries, never responses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dartlib.analysis.tables import bias_table, difficulty_groups, strategies_of
from dartlib.statistics import bootstrap_interval, resampled_counts

if TYPE_CHECKING:
    import pandas as pd

    from dartlib.analysis.response_sets import ResponseSet

_SEED = 0  # of the bootstrap: the same table from the same numbers
_RESAMPLES, _LARGE, _FEWER = 1000, 20_000, 200  # of lengths; from ``_LARGE`` queries on only 200: seconds, not minutes


def composition_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Per data set and difficulty group, what it holds; ``outcomes`` as in ResponseSet (several sets may be stacked).

    Columns: strategy, group, queries, responses; ``share`` of the set's responses (paper's figure 2 middle) with
    ``share_low`` and ``share_high``, beside ``query_share``; ``characters`` per response with its band;
    ``character_share``; ``tokens`` per response (NaN where the set stores none); ``repeats``: share of responses
    that equal another response to the same query. Bands are 95 % percentile bootstraps over queries.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for strategy in strategies_of(outcomes):
        own = outcomes[outcomes["strategy"] == strategy]
        own = own.assign(group=difficulty_groups(own)[0])
        bands = _share_bands(own)
        everything = own[["n_correct", "characters"]].sum()
        for group, part in own.groupby("group", observed=True):
            counted = part["n_correct"].sum()
            row: dict[str, Any] = {
                "strategy": strategy,
                "group": group,
                "queries": len(part),
                "responses": int(counted),
            }
            row |= {"share": counted / max(1, everything["n_correct"]), "query_share": len(part) / len(own)}
            row |= {"share_low": bands[str(group)][0], "share_high": bands[str(group)][1]}
            row |= _per_response(part, "characters")
            row["character_share"] = part["characters"].sum() / max(1, everything["characters"])
            row["tokens"] = part["tokens"].sum() / counted if counted and part["tokens"].notna().any() else np.nan
            row["repeats"] = 1 - part["distinct"].sum() / counted if counted else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def bias_in_words(outcomes: pd.DataFrame) -> str:
    """What the figure of responses by group shows, one line per strategy, every word of it computed."""
    table, axis_name = bias_table(outcomes), difficulty_groups(outcomes)[1]
    lines = []
    for strategy, part in table.groupby("strategy", sort=False):
        means, missing = part["mean"], part["shortfall"] * part["queries"]
        line = f"{strategy}: {means.iloc[0]:.3g} responses per query"
        if len(part) > 1:
            steps = means.diff().dropna()
            way = "falls" if (steps <= 0).all() else "rises" if (steps >= 0).all() else "goes up and down"
            line += f" at {axis_name} {part['group'].iloc[0]}, {means.iloc[-1]:.3g} at {part['group'].iloc[-1]} ({way})"
        if missing.notna().any():
            line += f"; {missing.sum():.0f} of {(part['quota'] * part['queries']).sum():.0f} wanted are missing"
        if missing.sum() > 0 and len(part) > 1:
            most = part["group"].iloc[missing.argmax()]
            line += f", {missing.max() / missing.sum():.0%} of them at {axis_name} {most}"
        lines.append(line)
    return "\n".join(lines)


def gini_band(counts: npt.ArrayLike) -> tuple[float, float]:
    """95 % bootstrap band, over queries, of the Gini coefficient of responses per query (see ``gini``)."""
    values, multiplicity = np.unique(np.asarray(counts, dtype=np.float64), return_counts=True)
    drawn = resampled_counts(multiplicity, seed=_SEED)
    before = np.cumsum(drawn, axis=1) - drawn
    ranks = drawn * before + drawn * (drawn + 1) / 2  # sum of the ranks that a value's queries take
    total, n = drawn @ values, int(multiplicity.sum())
    with np.errstate(invalid="ignore"):
        ginis = np.where(total > 0, 2 * (ranks @ values) / (n * total) - (n + 1) / n, 0.0)
    low, high = np.quantile(ginis, [0.025, 0.975])
    return float(low), float(high)


def token_table(
    responses: ResponseSet, count: Callable[[str], int], *, rows: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Tokens per response by group from a seeded sample: strategy, group, sampled, tokens with its band, token_share.

    Tokens per character are measured on the sample (``count`` gives the tokens of a text) and multiplied with the
    characters of all responses, which are known exactly. ``tokens_low`` and ``tokens_high`` are a 95 % bootstrap over
    the sampled queries; ``token_share`` is the group's share of all tokens. Groups without a sample are left out.
    """
    import pandas as pd

    sample = responses.sampled_texts(rows, seed)
    sample = sample.assign(tokens=sample["response"].map(count), length=sample["response"].str.len())
    outcomes = responses.outcomes.assign(group=difficulty_groups(responses.outcomes)[0])
    sample["group"] = sample["query_id"].map(outcomes.set_index("query_id")["group"].astype(str))
    table = []
    for group, part in outcomes.groupby("group", observed=True):
        own = sample[sample["group"] == str(group)].groupby("query_id")[["tokens", "length"]].sum().to_numpy(float)
        if not len(own) or not part["n_correct"].sum():
            continue
        mean = part["characters"].sum() / part["n_correct"].sum()
        low, high = bootstrap_interval(own, _ratio, seed=_SEED)
        row: dict[str, Any] = {
            "strategy": responses.name,
            "group": group,
            "sampled": int((sample["group"] == group).sum()),
        }
        row |= {"tokens": mean * _ratio(own), "tokens_low": mean * low, "tokens_high": mean * high}
        table.append(row | {"all_tokens": part["characters"].sum() * _ratio(own)})
    frame = pd.DataFrame(table)
    return frame.assign(token_share=frame["all_tokens"] / frame["all_tokens"].sum()).drop(columns="all_tokens")


def _share_bands(own: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Per group, the band of its share of the responses: all groups are resampled together."""
    codes, counts = own["group"].cat.codes.to_numpy(), own["n_correct"].to_numpy()
    pairs, multiplicity = np.unique(np.stack([codes, counts]), axis=1, return_counts=True)
    drawn = resampled_counts(multiplicity, seed=_SEED) * pairs[1]
    total = np.maximum(1, drawn.sum(axis=1))
    bands = {}
    for code, group in enumerate(own["group"].cat.categories):
        low, high = np.quantile(drawn[:, pairs[0] == code].sum(axis=1) / total, [0.025, 0.975])
        bands[str(group)] = (float(low), float(high))
    return bands


def _per_response(part: pd.DataFrame, column: str) -> dict[str, float]:
    """Mean per response of a column summed per query, with its band; NaN without responses."""
    pairs = part.loc[part["n_correct"] > 0, [column, "n_correct"]].to_numpy(float)
    if not len(pairs):
        return {column: np.nan, f"{column}_low": np.nan, f"{column}_high": np.nan}
    resamples = _RESAMPLES if len(pairs) < _LARGE else _FEWER
    low, high = bootstrap_interval(pairs, _ratio, seed=_SEED, resamples=resamples)
    return {column: _ratio(pairs), f"{column}_low": low, f"{column}_high": high}


def _ratio(pairs: npt.NDArray[np.float64]) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())
