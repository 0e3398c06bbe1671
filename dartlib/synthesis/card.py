"""The data card: what a data set is, how it was made, and the call that makes it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean

from dartlib.queries import Overlap
from dartlib.records import QueryOutcome, SftRow
from dartlib.synthesis.filters import RED_FLAGS, red_flag_table
from dartlib.synthesis.truth import ASSUMPTIONS, VerifierCard, right_share_table, right_shares

_HOW = {
    "vrt": "vanilla rejection tuning: the same number of trials for every query",
    "uniform": "DARS-Uniform: trials until every query has its quota of correct responses, or the cap",
    "prop2diff": "DARS-Prop2Diff: trials until correct responses are proportional to the fail rate, or the cap",
}


def data_card(
    strategy: str,
    rows: Sequence[SftRow],
    outcomes: Sequence[QueryOutcome],
    *,
    parameters: Mapping[str, object],
    rebuild: str,
    licences: Mapping[str, str],
    verifier: VerifierCard | None = None,
    dropped: Mapping[str, int] | None = None,
    overlaps: Sequence[Overlap] = (),
) -> str:
    """A Markdown card: strategy, counts per level, shortfall, red flags, parameters, rebuild command, licences.

    It says what answer matching does not check, and lists the queries that stayed below their quota. ``verifier``
    adds, per bin of fail rates, the share of responses whose answer is truly right; ``dropped`` is what filters
    took away (`curate`); ``overlaps`` is what `find_overlaps` says of benchmarks in the queries.
    """
    unmet = [outcome for outcome in outcomes if outcome.status not in ("met", "drawn")]
    parts = [
        f"# {strategy}: {len(rows)} responses to {len({row.query_id for row in rows})} of {len(outcomes)} queries",
        f"Made by {_HOW[strategy]} (arXiv 2407.13690).",
        "Every response ends in an answer judged equal to the reference. **Its reasoning is not checked**: some "
        "responses reach the right answer by a wrong way, most often on hard queries.",
        "## Counts by level",
        _level_table(rows, outcomes),
        "## Queries below their quota",
        _unmet_line(unmet, len(outcomes)),
        "## Truly right answers",
        _truth(outcomes, verifier),
        "## Red flags",
        _red_flags(rows),
        f"Dropped by filters: {', '.join(f'{name} {n}' for name, n in (dropped or {}).items() if n) or 'nothing'}.",
        "## Benchmarks in the queries",
        _overlaps(overlaps),
        "## Parameters",
        "\n".join(f"- `{name}`: {value!r}" for name, value in parameters.items()),
        "## Make it again",
        f"    {rebuild}",
        "Sampled text is stored, not regenerated: an engine may answer differently on another machine. From the same "
        "pool, the data set is the same to the byte.",
        "## Licences",
        "\n".join(f"- {what}: {licence}" for what, licence in licences.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _overlaps(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return "Not looked for."
    lines = [
        f"- {one.benchmark}: {one.whole} of {one.questions} questions whole, {one.part} sharing {one.words} words in a "
        f"row ({one.short} are shorter than that)"
        for one in overlaps
    ]
    return "\n".join([*lines, "", "Copies only: a paraphrase is not seen."])


def _truth(outcomes: Sequence[QueryOutcome], verifier: VerifierCard | None) -> str:
    if verifier is None:
        return "Not estimated: no verifier card was given."
    table = right_share_table(right_shares(outcomes, verifier))
    return f"{table}\n\nEstimated from the pass rates and {verifier.source}, {ASSUMPTIONS}."


def _red_flags(rows: Sequence[SftRow]) -> str:
    """Percent of responses with each flag, by level, with Wilson 95 % intervals."""
    lines = [f"| level | responses | {' | '.join(RED_FLAGS)} |", "| --- | ---: |" + " ---: |" * len(RED_FLAGS)]
    table = red_flag_table([row.response for row in rows], [row.level for row in rows])
    for row in table.to_dict("records"):
        shares = (f"{row[name]:.1%} ({row[f'{name}_low']:.1%} to {row[f'{name}_high']:.1%})" for name in RED_FLAGS)
        lines.append(f"| {row['group']} | {row['responses']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _level_table(rows: Sequence[SftRow], outcomes: Sequence[QueryOutcome]) -> str:
    levels = sorted({outcome.level for outcome in outcomes}, key=lambda level: (level is None, level or 0))
    lines = [
        "| level | queries | covered | responses | mean fail rate | trials counted |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    responses = Counter(row.level for row in rows)
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
