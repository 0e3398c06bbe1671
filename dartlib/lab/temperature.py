"""The paper's temperature search: which temperature reaches a given coverage of train queries soonest.

Appendix A.2 of the paper tries 0.3 to 1.8 in steps of 0.1 and takes 1.6; it finds that higher is faster, all from 1.0
on are alike, and from 1.7 on text becomes nonsense. Each query is asked until its first correct response: the share
that has one within n trials is what n trials for everybody would cover, at a fraction of the cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dartlib.engines import Engine, SamplingParameters
from dartlib.grading import GRADER_VERSION
from dartlib.queries import Template
from dartlib.records import Query
from dartlib.sampling import ConstantPolicy, open_pool, sample
from dartlib.statistics import wilson_interval


def search_temperature(
    queries: Sequence[Query],
    temperatures: Sequence[float],
    *,
    engine: Engine,
    template: Template,
    sampling: SamplingParameters,
    sampling_seed: int,
    coverage: float,
    cap: int,
    pool_folder: Path,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """One row per temperature, best first; each temperature has its own pool under ``pool_folder`` and resumes.

    ``trials_to_coverage``: trials per query that cover the wanted share (missing where ``cap`` trials do not), and
    ``tokens_to_coverage``: response tokens spent on the way. ``covered`` within ``cap`` has its Wilson interval. Best
    is fewest trials, then most covered. Raises ValueError for an empty grid or a coverage outside (0, 1].
    """
    if not temperatures or not 0 < coverage <= 1:
        raise ValueError(f"temperatures {list(temperatures)} and coverage {coverage}: some, and a share above 0")
    rows = []
    for temperature in temperatures:
        report = sample(
            queries,
            engine=engine,
            template=template,
            sampling=replace(sampling, temperature=temperature),
            sampling_seed=sampling_seed,
            policy=ConstantPolicy(cap, quota=1),
            pool_folder=pool_folder,
            allow_unusable=True,  # at the hot end of a grid that is a finding
            log=log,
        )
        columns, within = ["query_id", "trial", "verdict", "n_tokens"], f"trial < {cap}"  # the pool may hold more
        frame = open_pool(report.pool).samples(queries, GRADER_VERSION, columns=columns, where=within)
        rows.append({"temperature": temperature} | speed_of_coverage(frame, len(queries), coverage))
    return pd.DataFrame(rows).sort_values(["trials_to_coverage", "covered"], ascending=[True, False], ignore_index=True)


def speed_of_coverage(samples: pd.DataFrame, n_queries: int, coverage: float) -> dict[str, float]:
    """Trials per query and tokens until the wanted share of queries has a correct response.

    ``samples`` has ``query_id``, ``trial``, ``verdict`` and ``n_tokens``; trials behind a query's first correct one,
    asked because its reply was not there yet, do not count.
    """
    first_correct = samples[samples["verdict"] == "correct"].groupby("query_id")["trial"].min()
    samples = samples[samples["trial"] <= samples["query_id"].map(first_correct).fillna(np.inf)]
    first = np.sort(first_correct.to_numpy()) + 1
    wanted = int(np.ceil(coverage * n_queries - 1e-9))
    reached = len(first) >= wanted
    trials = int(first[wanted - 1]) if reached else None
    spent = samples["n_tokens"] if trials is None else samples.loc[samples["trial"] < trials, "n_tokens"]
    low, high = wilson_interval(len(first), n_queries)
    return {
        "trials_to_coverage": float("nan") if trials is None else trials,
        "tokens_to_coverage": float(spent.sum()) if reached else float("nan"),
        "covered": len(first) / n_queries,
        "low": low,
        "high": high,
    }
