"""Models side by side: scores with their marks, pairs tested by item, arms over seeds, and the paper's rows.

Only scores of one protocol stand beside each other, unless that is asked for; then what differs is said.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from dartlib.evaluation.results import Result, read_result
from dartlib.published import load_published
from dartlib.queries import benchmark_names, get_source
from dartlib.records import Item, RecordError, Verdict, read_table
from dartlib.statistics import MIN_SEEDS, compare_over_seeds, compare_paired, holm

PAPER_MAX_TOKENS = 2048
_PAPER_NAMES = ("MATH", "GSM8K", "CollegeMath", "DeepMind-Mathematics", "OlympiadBench-Math", "TheoremQA")


class ComparisonError(RecordError):
    """These results cannot stand beside each other; the message says what differs and the option that allows it."""


@dataclass(frozen=True)
class Comparison:
    """Four tables (pandas) and the notes that belong under them.

    ``scores``: one row per benchmark, model and score, with interval, what was cut or unanswered, and ``marks``.
    ``pairs``: second minus first, every two models on the items both answered; ``p_holm`` corrects over all rows.
    ``arms``: the same over seeds and items where two arms have five seeds or more, models named ``<arm>-seed<n>``.
    ``published``: the paper's Table 2 for these benchmarks, in percent.
    """

    scores: pd.DataFrame
    pairs: pd.DataFrame
    arms: pd.DataFrame
    published: pd.DataFrame
    notes: Sequence[str]


def compare_results(paths: Sequence[Path], *, unlike: bool = False, paper_rows: str = "DART") -> Comparison:
    """Compare the result files in ``paths`` (folders of one model each, or their ``result.json``).

    ``unlike`` lets scores of different protocols stand beside each other; ``paper_rows``: show the paper's rows whose
    name holds this text ("" all). Raises ComparisonError for unlike protocols and for two results of one name.
    """
    results = [read_result(path) for path in paths]
    names = [result.model for result in results]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ComparisonError(f"two results are named {repeated[0]!r}: evaluate one again under another name")
    benchmarks = list(dict.fromkeys(name for result in results for name in result.benchmarks))
    differences = [line for name in benchmarks for line in _differences(name, results)]
    if differences and not unlike:
        lines = "\n".join(f"  {line}" for line in differences)
        raise ComparisonError(f"these results were not made alike (--unlike shows them all the same):\n{lines}")
    means = {str(name): _item_means(part) for name, part in _verdicts(results).groupby("benchmark")}
    pairs = pd.DataFrame([row for name in benchmarks for row in _pair_rows(name, means[name])])
    if len(pairs):
        pairs["p_holm"] = holm(pairs["p_value"].tolist())
    return Comparison(
        scores=pd.DataFrame([row for name in benchmarks for result in results for row in _score_rows(name, result)]),
        pairs=pairs,
        arms=pd.DataFrame([row for name in benchmarks for row in _arm_rows(name, means[name])]),
        published=_published(benchmarks, paper_rows),
        notes=[*(f"unlike: {line}" for line in differences), *_comparability(benchmarks, results)],
    )


def _differences(benchmark: str, results: Sequence[Result]) -> Iterator[str]:
    """What the protocols of one benchmark differ in, each model held against the first that has it."""
    first, *others = [result for result in results if benchmark in result.benchmarks]
    protocol = first.benchmarks[benchmark]["protocol"]
    for other in others:
        for key, theirs in other.benchmarks[benchmark]["protocol"].items():
            if protocol[key] != theirs:
                yield f"{benchmark}, {first.model} / {other.model}: {key}: {protocol[key]!r} / {theirs!r}"


def _score_rows(benchmark: str, result: Result) -> Iterator[dict[str, Any]]:
    if (found := result.benchmarks.get(benchmark)) is None:
        return
    replies, cut = found["items"] * found["samples"], found["unusable"]["cut"]
    about = {"items": found["items"], "samples": found["samples"], "cut": cut / replies}
    about |= {"no_answer": (found["verdicts"][Verdict.NO_ANSWER.value] - cut) / replies}
    about |= {"finished": found["finished"]["accuracy"], "without_broken": found["without_broken"]["accuracy"]}
    broken, overlap = found["items"] - found["without_broken"]["items"], found["overlap"]
    marks = ["UNUSABLE replies allowed"] if found["protocol"]["unusable_allowed"] else []
    marks += [f"{broken} broken items"] if broken else []
    marks += [f"{overlap['part']} items in its training set"] if overlap and overlap["part"] else []
    about |= {"marks": "; ".join(marks), "protocol": found["protocol_digest"]}
    for name, score in found["scores"].items():
        yield {"benchmark": benchmark, "model": result.model, "score": name, **score, **about}


def _verdicts(results: Sequence[Result]) -> pd.DataFrame:
    """Every graded reply without its text: model, benchmark, query_id, right (0 or 1)."""
    parts = []
    for result in results:
        table = read_table(result.folder / "items.parquet", Item, columns=["benchmark", "query_id", "verdict"])
        parts.append(table.to_pandas().assign(model=result.model))
    items = pd.concat(parts, ignore_index=True)
    return items.assign(right=(items["verdict"] == Verdict.CORRECT.value).astype(float))


def _item_means(items: pd.DataFrame) -> pd.DataFrame:
    """Mean score per item (rows) and model (columns, as they come); NaN where a model was not asked the item."""
    means = items.pivot_table(index="query_id", columns="model", values="right")
    return means[list(dict.fromkeys(items["model"]))]


def _pair_rows(benchmark: str, means: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for first, second in combinations(means.columns, 2):
        both = means[[first, second]].dropna()
        if len(both):
            found = compare_paired(both[first], both[second], seed=0)
            yield {"benchmark": benchmark, "first": first, "second": second, **found._asdict()}


def _arm_rows(benchmark: str, means: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Arms with enough seeds, on the items that every one of their models answered."""
    arms: dict[str, list[str]] = {}
    for model in means.columns:
        arms.setdefault(re.sub(r"-seed\d+$", "", model), []).append(model)
    many = [arm for arm, models in arms.items() if len(models) >= MIN_SEEDS]
    for first, second in combinations(many, 2):
        common = means[[*arms[first], *arms[second]]].dropna()
        if len(common) > 1:
            found = compare_over_seeds(common[arms[first]].to_numpy().T, common[arms[second]].to_numpy().T)
            yield {"benchmark": benchmark, "first": first, "second": second, **found._asdict()}


def _paper_names() -> Mapping[str, str]:
    """Our name of each of the six benchmarks -> the paper's."""
    return dict(zip(benchmark_names(), _PAPER_NAMES, strict=True))


def _published(benchmarks: Sequence[str], rows: str) -> pd.DataFrame:
    """The paper's models (rows whose name holds ``rows``) on these benchmarks, in percent."""
    table = load_published("main_results")
    shared = [name for ours, name in _paper_names().items() if ours in benchmarks]
    table = table[table["benchmark"].isin(shared) & table["model"].str.contains(rows, regex=False, case=False)]
    order = list(dict.fromkeys(table["model"]))
    return table.pivot(index="model", columns="benchmark", values="value").reindex(index=order, columns=shared)


def _comparability(benchmarks: Sequence[str], results: Sequence[Result]) -> Iterator[str]:
    """One line per benchmark and protocol: whether the paper's cells stand beside these scores, and why not."""
    for benchmark in benchmarks:
        alike: dict[str, list[str]] = {}
        for result in results:
            if benchmark in result.benchmarks:
                reasons = "; ".join(paper_differences(benchmark, result.benchmarks[benchmark]["protocol"]))
                alike.setdefault(reasons, []).append(result.model)
        for reasons, models in alike.items():
            said = (
                f"not comparable with the paper's cells: {reasons}" if reasons else "comparable with the paper's cells"
            )
            yield f"{benchmark} ({', '.join(models)}): {said}{'' if reasons else ', but for grader and engine'}"


def paper_differences(benchmark: str, protocol: Mapping[str, Any]) -> list[str]:
    """What keeps a score of ours from standing beside the paper's; empty when only grader and engine differ."""
    if benchmark not in _paper_names():
        return ["none of its six benchmarks"]
    items, whole, samples = protocol["items"], get_source(benchmark).rows, protocol["samples"]
    template, cap, temperature = protocol["template"], protocol["max_tokens"], protocol["temperature"]
    reasons = {
        f"{items:,} of its {whole:,} items": items != whole,
        f"{samples} samples at temperature {temperature:g}, the paper's are greedy": temperature != 0 or samples != 1,
        f"a cap of {cap:,} tokens, the paper's is {PAPER_MAX_TOKENS:,}": cap != PAPER_MAX_TOKENS,
        f"template {template}, the paper's are alpaca (students) and qa (base)": template not in ("alpaca", "qa"),
        "worked examples of our own, for the paper's quote test items": template == "qa",
        "most replies unusable": protocol["unusable_allowed"],
    }
    return [reason for reason, holds in reasons.items() if holds]
