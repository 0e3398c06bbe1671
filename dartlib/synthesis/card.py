"""Data cards: what a data set is, how it was made, and the call that makes it again; and the folder's front page.

Each begins with the Hub's own YAML header, so a folder of data sets can be uploaded as it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from dartlib.queries import Overlap
from dartlib.records import QueryOutcome, SftRow, schema_of
from dartlib.synthesis.datasets import Tally
from dartlib.synthesis.red_flags import RED_FLAGS, FlagCounts, flag_table
from dartlib.synthesis.verifier import ASSUMPTIONS, VerifierCard, right_share_table, right_shares

_HOW = {
    "vrt": "vanilla rejection tuning: the same number of trials for every query",
    "uniform": "DARS-Uniform: trials until every query has its quota of correct responses, or the cap",
    "prop2diff": "DARS-Prop2Diff: trials until correct responses are proportional to the fail rate, or the cap",
}


@dataclass(frozen=True, slots=True)
class CardTexts:
    """What a card tells besides counts. ``parameters`` hold the ``teacher``'s name and ``teacher_weights``, its hash.

    ``verifier`` adds, per bin of fail rates, the share of responses whose answer is truly right; ``overlaps`` is what
    `find_overlaps` says of benchmarks in the queries.
    """

    rebuild: str
    licences: Mapping[str, str]
    parameters: Mapping[str, object]
    verifier: VerifierCard | None = None
    overlaps: Sequence[Overlap] = ()


def data_card(strategy: str, tally: Tally, outcomes: Sequence[QueryOutcome], texts: CardTexts) -> str:
    """A Markdown card: strategy, counts per level, shortfall, red flags, parameters, rebuild command, licences.

    It says what answer matching does not check, and lists the queries that stayed below their quota. ``tally`` holds
    what was counted of the rows.
    """
    unmet, given = [outcome for outcome in outcomes if outcome.status not in ("met", "drawn")], texts.parameters
    dropped = ", ".join(f"{name} {count}" for name, count in tally.dropped.items())
    parts = [
        _header(
            tally.by_level.total(), teacher={"name": given.get("teacher"), "weights": given.get("teacher_weights")}
        ),
        f"# {strategy}: {tally.by_level.total()} responses to {len(tally.by_query)} of {len(outcomes)} queries",
        f"Made by {_HOW[strategy]} (arXiv 2407.13690).",
        "Every response ends in an answer judged equal to the reference. **Its reasoning is not checked**: some "
        "responses reach the right answer by a wrong way, most often on hard queries.",
        "## Counts by level",
        _level_table(tally.by_level, outcomes),
        "## Queries below their quota",
        _unmet_line(unmet, len(outcomes)),
        "## Truly right answers",
        _right(outcomes, texts.verifier),
        "## Red flags",
        _red_flags(tally.flags),
        f"Dropped by filters: {dropped or 'nothing'}.",
        "## Benchmarks in the queries",
        _overlaps(texts.overlaps),
        "## Parameters",
        "\n".join(f"- `{name}`: {value!r}" for name, value in given.items()),
        "## Make it again",
        f"    {texts.rebuild}",
        "Sampled text is stored, not regenerated: an engine may answer differently on another machine. From the same "
        "pool, the data set is the same to the byte.",
        _licences(texts.licences),
    ]
    return "\n\n".join(parts) + "\n"


def front_page(rows: Mapping[str, int], licences: Mapping[str, str]) -> str:
    """``README.md`` of a folder of data sets (strategy -> rows): one Hub configuration for each, the cards linked.

    With it ``datasets.load_dataset(folder, strategy)`` works, and so does ``hf upload NAME folder . --repo-type
    dataset``. ``license: other`` points to the licences of queries and teacher, which decide what may be done with
    their offspring.
    """
    files = {name: [{"split": "train", "path": f"{name}.parquet"}] for name in rows}
    types = {"large_string": "string", "double": "float64"}
    columns = {one.name: types.get(str(one.type), str(one.type)) for one in schema_of(SftRow)}
    parts = [
        _header(
            sum(rows.values()),
            configs=[{"config_name": name, "data_files": paths} for name, paths in files.items()],
            dataset_info=[
                {"config_name": name, "features": [{"name": one, "dtype": kind} for one, kind in columns.items()]}
                for name in rows
            ],
        ),
        "# Difficulty-aware synthetic data",
        "\n".join(f"- [{name}]({name}.md): {count} rows" for name, count in rows.items()),
        "Columns: `query`, `response`, then `query_id`, `trial` (number of the attempt), `source`, `level`, "
        "`pass_rate` (correct share of the difficulty trials) and `strategy`. Method: arXiv 2407.13690.",
        _licences(licences),
    ]
    return "\n\n".join(parts) + "\n"


def size_category(rows: int) -> str:
    """The Hub's name for a size, as ``1M<n<10M``."""
    if rows < 1000:
        return "n<1K"
    names = [*(f"{10**power}{unit}" for unit in "KMB" for power in range(3)), "1T"]
    place = len(str(rows)) - 4
    return f"{names[place]}<n<{names[place + 1]}" if place < 9 else "n>1T"


def _header(rows: int, **more: Any) -> str:
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        language=["en"],
        license="other",
        license_name="see-licences",
        license_link="#licences",
        size_categories=[size_category(rows)],
        task_categories=["text-generation"],
        tags=["math", "synthetic", "rejection-sampling", "dart-math"],
        **more,
    )
    return f"---\n{data.to_yaml()}\n---"


def _licences(licences: Mapping[str, str]) -> str:
    return "\n".join(["## Licences", "", *(f"- {what}: {licence}" for what, licence in licences.items())])


def _overlaps(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return "Not looked for."
    lines = [
        f"- {one.benchmark}: {one.whole} of {one.questions} questions whole, {one.part} sharing {one.words} words in a "
        f"row ({one.short} are shorter than that)"
        for one in overlaps
    ]
    return "\n".join([*lines, "", "Copies only: a paraphrase is not seen."])


def _right(outcomes: Sequence[QueryOutcome], verifier: VerifierCard | None) -> str:
    if verifier is None:
        return "Not estimated: no verifier card was given."
    table = right_share_table(right_shares(outcomes, verifier))
    return f"{table}\n\nEstimated from the pass rates and {verifier.source}, {ASSUMPTIONS}."


def _red_flags(counts: FlagCounts) -> str:
    """Percent of responses with each flag, by level, with Wilson 95 % intervals."""
    lines = [f"| level | responses | {' | '.join(RED_FLAGS)} |", "| --- | ---: |" + " ---: |" * len(RED_FLAGS)]
    for row in flag_table(counts).to_dict("records"):
        shares = (f"{row[name]:.1%} ({row[f'{name}_low']:.1%} to {row[f'{name}_high']:.1%})" for name in RED_FLAGS)
        lines.append(f"| {row['group']} | {row['responses']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _level_table(responses: Mapping[int | None, int], outcomes: Sequence[QueryOutcome]) -> str:
    levels = sorted({outcome.level for outcome in outcomes}, key=lambda level: (level is None, level or 0))
    lines = [
        "| level | queries | covered | responses | mean fail rate | trials counted |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for level in levels:
        group = [outcome for outcome in outcomes if outcome.level == level]
        lines.append(
            f"| {'none' if level is None else level} | {len(group)} | {sum(o.n_correct > 0 for o in group)} "
            f"| {responses[level]} | {mean(o.fail_rate for o in group):.2f} | {sum(o.n_trials for o in group)} |"
        )
    return "\n".join(lines)


def _unmet_line(unmet: Sequence[QueryOutcome], n_queries: int) -> str:
    if not unmet:
        return "None: every query met its target."
    counts = Counter(outcome.status for outcome in unmet)
    why = ", ".join(f"{count} by {status}" for status, count in sorted(counts.items()))
    names = ", ".join(f"`{outcome.query_id}` ({outcome.n_correct}/{outcome.quota})" for outcome in unmet[:20])
    more = f", and {len(unmet) - 20} more in outcomes.parquet" if len(unmet) > 20 else ""
    return f"{len(unmet)} of {n_queries} ({why}): {names}{more}."
