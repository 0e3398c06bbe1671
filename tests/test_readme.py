"""The README's numbers are those of the committed reference run, and every figure it shows has its sidecar.

`python tests/test_readme.py` writes figures/README.json anew: where each number of the README's tables comes from.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from dartlib.analysis import Point, points_of, rows_of
from dartlib.files import sha256_of
from dartlib.pipeline.cli import main
from dartlib.records import read_manifest

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY / "papermill_runs" / "reference"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def stage_table() -> str:
    """The table of stages and seconds, as `dartlib run` counts them."""
    manifests = [read_manifest(path) for path in sorted(REFERENCE.rglob("manifest.json"))]
    rows = [f"| `{manifest.stage}` | {manifest.seconds:.0f} |" for manifest in manifests]
    return "\n".join(["| stage | seconds |", "| --- | ---: |", *rows])


def test_the_table_of_stages_is_the_reference_runs() -> None:
    assert stage_table() in README


def test_the_counts_are_the_reference_runs() -> None:
    metrics = json.loads((REFERENCE / "02_synthesis" / "metrics.json").read_text())
    rows = ", ".join(f"{count} (`{strategy}`)" for strategy, count in metrics["rows"].items())
    sentence = f"{metrics['trials']:,} trials of {metrics['queries']} queries gave {rows} responses"
    assert sentence in re.sub(r"\s+", " ", README)


def test_committed_figures_belong_to_the_reference_run() -> None:
    figures = sorted((REPOSITORY / "figures").glob("*.png"))
    assert len(figures) >= 6
    commits = {read_manifest(path).git_commit for path in REFERENCE.rglob("manifest.json")}
    for figure in figures:
        sidecar = json.loads(figure.with_suffix(".json").read_text())
        assert sidecar["git_commit"] in commits
        for name, digest in sidecar["inputs"].items():
            kept = REFERENCE / name
            if kept.is_file():
                assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest


def test_every_picture_of_the_readme_is_there() -> None:
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (REPOSITORY / name).is_file()


# What the README's table of measurements shows: bench, metric, what it means.
SHOWN = [
    ("scheduler", "waste_uniform", "trials for Uniform 40 on 14,973 simulated queries"),
    ("scheduler", "waste_prop2diff", "trials for Prop2Diff 192 on the same"),
    ("scheduler", "waste_100_queries", "trials for 100 queries with 256 slots"),
    ("scheduler", "loop_waste_100_queries", "the same by the published code's loop"),
    ("scheduler", "makespan", "hours for Uniform 40, simulated"),
    ("synthesis", "busy", "tokens a second of a real vLLM server, before the tail"),
    ("synthesis", "wall_vs_rounds", "seconds for the same quotas"),
    ("stopping", "samples_equal_yield", "trials with the stopping rule, hard yield kept"),
    ("pool", "count_seconds", "seconds to count 20 million trials"),
    ("pool", "peak_gb", "GB of memory for that"),
    ("bias", "seconds", "seconds for the bias of 2.3 million responses"),
    ("bias", "peak_gb", "GB of memory for that"),
    ("grading", "answers_per_second", "answers graded a second on one core"),
    ("training", "tokens_per_second", "tokens trained a second, rows of the ladder"),
    ("training", "tokens_per_second_paper", "the same, rows of the paper's shape"),
    ("training", "peak_gb", "GB of memory for the ladder's rows"),
    ("evaluation", "command to table", "seconds from the command to the table: four models, three benchmarks"),
    ("synthesize_scale", "peak_gb", "GB of memory to cut three data sets from 500,000 trials of 1 kB"),
]


def bench_table() -> str:
    lines = ["| bench | what | ours | beside | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for bench, metric, meaning in SHOWN:
        rows = json.loads((REFERENCE / "benchmarks" / f"{bench}.json").read_text())
        row = next(row for row in rows if row["metric"] == metric)
        ours, beside = (f"{row[side]:,.{2 if row[side] < 100 else 0}f}" for side in ("ours", "reference"))
        ratio = row["ours"] / row["reference"]
        lines.append(f"| `{bench}` | {meaning} | {ours} | {beside} ({row['reference_name']}) | {ratio:.4g} |")
    return "\n".join(lines)


def test_the_table_of_measurements_is_that_of_the_committed_benches() -> None:
    assert bench_table() in README


def readme_points() -> list[Point]:
    """The numbers of the tables and of the sentence on trials, each with its file in the reference run.

    The pilot's and the cards' numbers have pages and tests of their own, which recompute them from committed answers.
    """
    points = []
    for path in sorted(REFERENCE.rglob("manifest.json")):
        manifest, file = read_manifest(path), path.relative_to(REFERENCE).as_posix()
        points.append(Point(f"seconds, {manifest.stage}", manifest.seconds, file=file, n=1))
    metrics = json.loads((REFERENCE / "02_synthesis" / "metrics.json").read_text())
    counts = {"trials": ("samples.parquet", metrics["trials"]), "queries": ("queries.parquet", metrics["queries"])}
    counts |= {f"responses, {name}": (f"datasets/{name}.jsonl", count) for name, count in metrics["rows"].items()}
    points += [Point(label, n, file=f"02_synthesis/{file}", n=n) for label, (file, n) in counts.items()]
    for bench, metric, _ in SHOWN:
        file = f"benchmarks/{bench}.json"
        row = next(row for row in json.loads((REFERENCE / file).read_text()) if row["metric"] == metric)
        for side, value in (("ours", row["ours"]), ("beside", row["reference"])):
            points.append(Point(f"{bench}, {metric}: {side}", value, file=file, where=f"metric == {metric!r}", n=1))
    return points


def readme_sidecar() -> str:
    """In the form of a figure's sidecar, so that `dartlib show README` lists the numbers and traces each."""
    points = readme_points()
    inputs = {point.file: sha256_of(REFERENCE / point.file) for point in points}
    told = {"caption": "Numbers of the README's tables", "notebook": "", "run": "reference", "inputs": inputs}
    return json.dumps(told | {"points": [asdict(point) for point in points]}, indent=2, sort_keys=True) + "\n"


def test_the_readmes_sidecar_is_that_of_the_committed_files() -> None:
    assert (REPOSITORY / "figures" / "README.json").read_text(encoding="utf-8") == readme_sidecar()


def test_every_number_of_the_readmes_tables_is_found_in_its_rows() -> None:
    """Counts are counted again, from the samples and from the data sets' rows; measurements are read where they lie."""
    points = points_of(REPOSITORY / "figures" / "README.json")
    assert len(points) == len(re.findall(r"^\| `\w+(?:/[\w-]+)?` \| \d+ \|$", README, re.MULTILINE)) + 5 + 2 * len(
        SHOWN
    )
    for point in points:
        rows = rows_of(REFERENCE, point)
        what, _, name = point.label.partition(", ")
        column = {"ours": "ours", "beside": "reference"}.get(name.rpartition(": ")[2], "seconds")
        counted = what in ("trials", "queries", "responses")
        assert point.n == len(rows) and point.value == (len(rows) if counted else rows[column].item()), point.label


def test_a_number_of_the_readme_is_shown_with_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["show", str(REPOSITORY / "figures" / "README.json"), "--point", "responses, vrt", "--samples", "1"]) == 0
    )
    told = capsys.readouterr().out
    assert "recounted:" in told and "of 02_synthesis/datasets/vrt.jsonl" in told and "response:" in told


def test_the_pilots_numbers_are_those_of_its_page() -> None:
    """Which test_study_pilot.py recomputes from the committed answers."""
    page = (REPOSITORY / "papermill_runs" / "study" / "PILOT.md").read_text(encoding="utf-8")
    told = re.sub(r"\s+", " ", README)
    for row, sentence in {
        "| levels 3 to 5 (the rule) | +21.2 | +16.4 to +25.9 |": "**21.2 points better [16.4, 25.9]**",
        "| levels 3 to 5 | +18.4 | +13.0 to +23.8 |": "18.4 [13.0, 23.8] at equal tokens",
        "| level 1 | -22.0 | -33.9 to -10.1 |": "22.0 points *worse* [10.1, 33.9]",
    }.items():
        assert row in page and sentence in told


def test_the_hard_card_is_told_as_its_table_says() -> None:
    with (REPOSITORY / "tests" / "verifier_card_hard_table.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["table"] == "constructed" and row["group"] == "all"]
    ours = {row["measure"]: row for row in rows if row["grader"] == "ours"}
    told = [f"{name} {row['value']} [{row['low']}, {row['high']}]" for name, row in ours.items()]
    assert all(text.replace("0.", ".") in re.sub(r"\s+", " ", README) for text in told)


if __name__ == "__main__":
    (REPOSITORY / "figures" / "README.json").write_text(readme_sidecar(), encoding="utf-8")
