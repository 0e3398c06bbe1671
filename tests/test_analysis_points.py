"""From a point of a figure to its rows and samples: every figure of the reference run, walked back by other means."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from dartlib import analysis
from dartlib.analysis import Point, points_of, publish, rows_of, saving
from dartlib.analysis.points import OUTCOMES, remember, samples_below
from dartlib.analysis.tracing import samples_of
from dartlib.files import sha256_of
from dartlib.pipeline.cli import main
from dartlib.published import load_published
from dartlib.records import Query, RecordError, write_records
from dartlib.statistics import pass_at_k

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY / "papermill_runs" / "reference"
HOSTILE = "<script>alert(1)</script> \x1b[2J\x1b]0;title\x07 $x$ \u202e reversed\n![i](http://evil)"


def draw(run: Path) -> None:
    """The figures of notebooks 01 and 05, by the calls that the notebooks make, without the pictures."""
    inputs = [run / "02_synthesis" / name for name in ("outcomes.parquet", "samples.parquet")]
    outcomes, samples = analysis.read_outcomes(inputs[0]), analysis.read_samples(inputs[1])
    item_files, log_files = analysis.find_items(run), analysis.find_training_logs(run)
    items, logs = analysis.read_items(item_files), analysis.read_training_logs(log_files)
    levels, rates = load_published("metamathqa_by_level"), analysis.pass_rates(samples, 8)
    verdicts = analysis.verdict_table(
        {"synthesis": samples} | {model: items[items["model"] == model] for model in item_files}, {"synthesis": 2}
    )
    ranks, averages = load_published("responses_by_rank"), load_published("average_accuracy")
    of_models, of_logs = list(item_files.values()), list(log_files.values())
    figures = {
        "responses": (analysis.responses_by_level_figure(outcomes), inputs),
        "coverage": (analysis.coverage_by_level_figure(outcomes, levels), inputs),
        "rank": (analysis.responses_by_rank_figure(outcomes, samples, ranks), inputs),
        "ladder": (analysis.pass_rate_ladder_figure(rates), inputs),
        "pass_at_k": (analysis.pass_at_k_figure(rates, published=load_published("pass_at_k")), inputs),
        "prediction": (analysis.vrt_prediction_figure(samples, 8), inputs),
        "cost": (analysis.synthesis_cost_figure(outcomes, samples), inputs),
        "loss": (analysis.training_loss_figure(logs), of_logs),
        "verdicts": (analysis.verdict_shares_figure(verdicts), [inputs[1], *of_models]),
        "accuracy": (analysis.accuracy_by_level_figure(items, "ladder-arithmetic"), of_models),
        "paper_1": (analysis.published_averages_figure(averages, ranks), []),
        "paper_3": (analysis.published_scaling_figure(load_published("scaling")), []),
        "paper_4": (analysis.published_cost_figure(load_published("synthesis_cost")), []),
        "paper_4_cover": (analysis.published_cover_figure(load_published("one_response_coverage")), []),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "_render", lambda figure, suffix: b"")
        patch.setattr(saving, "show", lambda figure: None)
        for name, (figure, drawn) in figures.items():
            publish(figure, name, f"Caption of {name}", folder=run / "figures", notebook="test", inputs=drawn)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points") / "run"
    shutil.copytree(REFERENCE, folder)
    draw(folder)
    return folder


def correct(rows: pd.DataFrame) -> pd.Series:
    return rows["verdict"] == "correct"


def chance(rows: pd.DataFrame, k: int) -> float:
    """pass@k over the rows of whole queries."""
    return float(np.mean([pass_at_k(len(own), int(correct(own).sum()), k) for _, own in rows.groupby("query_id")]))


def spent(rows: pd.DataFrame) -> float:
    needed = rows[["n_trials", "n_difficulty"]].max(axis=1)
    return float(rows["n_trials"].where(rows["strategy"] == "vrt", needed).mean())


def reached(rows: pd.DataFrame, cap: int) -> float:
    """Quotas met within a cap: the meeting trial is the last that counts."""
    return 100 * float(((rows["status"] == "met") & (rows["n_trials"] <= cap)).mean())


def predicted(rows: pd.DataFrame, note: str) -> float | None:
    per_query = correct(rows).groupby(rows["query_id"]).sum()
    means = {"responses": per_query.mean(), "coverage": 100 * (per_query > 0).mean()}
    return {**means, "predicted": 4 * correct(rows).mean()}.get(note)  # the spread's fit is tested elsewhere


def number(label: str) -> int:
    return int(re.findall(r"\d+", label)[-1])


# What the rows of a point must give, figure by figure, without the tables that the figures are drawn from.
RECOUNTED = {
    "responses": lambda rows, label: rows["n_correct"].mean(),
    "coverage": lambda rows, label: 100 * (rows["n_correct"] > 0).mean(),
    "rank": lambda rows, label: rows["n_correct"].mean(),
    "ladder": lambda rows, label: correct(rows).mean(),
    "pass_at_k": lambda rows, label: 100 * chance(rows, number(label)),
    "prediction": lambda rows, label: predicted(rows, label.partition(": ")[2]),
    "cost": lambda rows, label: spent(rows) if "trials" in label else reached(rows, number(label)),
    "loss": lambda rows, label: rows["loss"].item(),
    "accuracy": lambda rows, label: 100 * correct(rows).mean(),
}


@pytest.mark.parametrize("name", RECOUNTED)
def test_every_point_is_what_its_rows_give(run: Path, name: str) -> None:
    points = [point for point in points_of(run / "figures" / f"{name}.json") if point.file]
    assert len(points) >= 3
    for point in points:
        rows = rows_of(run, point)
        assert len(rows) == point.n
        value = RECOUNTED[name](rows, point.label)
        assert value is None or point.value == pytest.approx(value, abs=1e-9), point.label
        assert point.low is None or point.low <= point.value + 1e-9 <= point.high + 2e-9


def test_verdicts_are_counted_per_stage_and_failed_requests_have_no_rows(run: Path) -> None:
    points = {point.label: point for point in points_of(run / "figures" / "verdicts.json")}
    samples = pq.read_table(REFERENCE / "02_synthesis" / "samples.parquet", columns=["verdict"]).column("verdict")
    wrong = samples.to_pylist().count("wrong")
    point = points["synthesis, wrong"]
    assert (point.n, point.file) == (wrong, "02_synthesis/samples.parquet")
    assert point.value == pytest.approx(100 * wrong / (len(samples) + 2), abs=1e-9)
    assert points["synthesis, error"].file == "" and points["synthesis, error"].value > 0
    assert points["base, correct"].file == "04_evaluation/base/items.parquet"


@pytest.mark.parametrize("name", ["paper_1", "paper_3", "paper_4", "coverage"])
def test_published_numbers_name_their_place_in_the_paper_and_no_rows(run: Path, name: str) -> None:
    points = [point for point in points_of(run / "figures" / f"{name}.json") if point.label.startswith("published: ")]
    assert len(points) >= 5 and all("preprint of 6 June 2024, figure" in point.label for point in points)
    assert {(point.file, point.where, point.n) for point in points} == {("", "", None)}


def test_samples_of_a_bar_are_the_trials_that_it_counts(run: Path) -> None:
    """Of Uniform: up to the trial that met the quota; those drawn later for other strategies are not its own."""
    points = {point.label: point for point in points_of(run / "figures" / "responses.json")}
    point = points["uniform, level 3"]
    frame, total = samples_of(run, point, 10_000)
    rows = rows_of(run, point)
    assert total == len(frame) == rows["n_trials"].sum()
    assert correct(frame).sum() == rows["n_correct"].sum() == pytest.approx(point.value * point.n)
    asked = pq.read_table(REFERENCE / "02_synthesis" / "queries.parquet").to_pandas().set_index("query_id")
    assert (frame["query"] == frame["query_id"].map(asked["query"])).all()
    few, _ = samples_of(run, point, 5)
    assert few.equals(frame.head(5)) and few["query_id"].nunique() > 1


def test_queries_of_an_evaluation_come_from_its_pool(run: Path, tmp_path: Path) -> None:
    """Where the pool is not kept (as in the reference run), the samples come without the question's text."""
    point = next(point for point in points_of(run / "figures" / "accuracy.json") if point.label == "base, level 1")
    frame, _ = samples_of(run, point, 3)
    assert "query" not in frame and frame["response"].notna().all()
    moved = shutil.copytree(run, tmp_path / "with-pool")
    pool = moved / "04_evaluation" / "base" / "pool" / "abc"
    pool.mkdir(parents=True)
    write_records(pool / "queries-000001.parquet", [Query(frame["query_id"][0], "s", "2 + 2?", "4")], Query)
    assert samples_of(moved, point, 1)[0][["query", "reference_answer"]].values.tolist() == [["2 + 2?", "4"]]


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["show", *words]) == 0
    return capsys.readouterr().out


def test_a_moved_run_loses_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--point", "vrt, level 5", "--samples", "2")
    before = shown(capsys, str(run / "figures" / "coverage.png"), *words)
    assert re.search("recounted: 10 rows, sha256 [0-9a-f]{12}…, as drawn", before)
    copied = shutil.copytree(run, tmp_path / "elsewhere")
    moved = shutil.move(copied, tmp_path / "somewhere" / "else")
    assert shown(capsys, "coverage", "--run", str(moved), *words) == before
    assert shown(capsys, str(Path(moved) / "figures" / "coverage.json")).count("10 rows of 02_synthesis/") == 15


def test_a_changed_file_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = shutil.copytree(run, tmp_path / "changed")
    file = moved / "02_synthesis" / "samples.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    told = shown(capsys, str(moved / "figures" / "ladder.json"), "--point", "level 1")
    assert re.search("CHANGED since it was drawn: 79 rows, sha256 .*; drawn from 80 rows, sha256 ", told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["coverage", "--point", "vrt level 5"], "did you mean 'vrt, level 5'?"),
        (["coverag"], "did you mean 'coverage'?"),
        (["{run}/figures/none.png"], "none.json: no such file"),
        (["{run}/02_synthesis/metrics.json"], "no sidecar with points: draw the figure again"),
        (["{run}/figures/coverage.json", "--point", "vrt, level 5", "--run", "{run}/figures"], "name the run"),
    ],
)
def test_what_is_not_there_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    named = words if "--run" in words or "{run}" in words[0] else [*words, "--run", "{run}"]
    assert main(["show", *(word.replace("{run}", str(run)) for word in named)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_a_figure_of_the_repository_is_traced_in_the_reference_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartlib.analysis import tracing

    monkeypatch.setattr(tracing, "REPOSITORY", tmp_path)
    monkeypatch.setattr(tracing, "RUNS", tmp_path / "papermill_runs")
    shutil.copytree(REFERENCE, tmp_path / "papermill_runs" / "reference")
    draw(tmp_path / "papermill_runs" / "reference")
    shutil.move(tmp_path / "papermill_runs" / "reference" / "figures", tmp_path / "figures")
    assert "recounted: 80 rows" in shown(capsys, str(tmp_path / "figures" / "ladder.png"), "--point", "level 2")


def test_hostile_samples_reach_no_terminal_and_no_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(run, tmp_path / "hostile")
    file = moved / "02_synthesis" / "samples.parquet"
    table = pq.read_table(file)
    texts = pa.array([HOSTILE] * len(table), table.schema.field("response").type)
    pq.write_table(
        table.set_column(table.schema.get_field_index("response"), table.schema.field("response"), texts), file
    )
    told = shown(capsys, str(moved / "figures" / "ladder.json"), "--point", "level 1")
    assert "alert(1)" in told and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", told)
    pages: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda shown: pages.append(shown.data))
    analysis.show_point(moved / "figures" / "ladder.json", "level 1", moved, samples=2)
    assert "alert" in pages[0] and "<script" not in pages[0] and "$x$" not in pages[0] and "\x1b" not in pages[0]


def simple(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    file = tmp_path / "02_synthesis" / "samples.parquet"
    file.parent.mkdir()
    rows = pd.DataFrame({"query_id": list("aabb"), "level": [1, 1, 1, 1], "trial": [0, 1, 0, 1]})
    pq.write_table(pa.Table.from_pandas(rows), file)
    return file, pd.DataFrame({"group": ["1"], "mean": [0.25], "queries": [2]})


def publish_points(tmp_path: Path, figure: Figure, file: Path, points: list[Point] | None = None) -> list[Point]:
    figure.subplots()
    publish(figure, "one", "One", folder=tmp_path / "figures", notebook="test", inputs=[file], points=points)
    return points_of(tmp_path / "figures" / "one.json")


def test_a_point_drawn_from_other_rows_than_its_condition_finds_keeps_only_its_value(tmp_path: Path) -> None:
    """As a pass rate does when queries with too few trials are left out."""
    file, table = simple(tmp_path)
    figure, rows = Figure(), samples_below(2)
    remember(figure, table, "mean", "level", rows)
    remember(figure, table.assign(queries=1), "mean", "level", rows, note="left out")
    remember(figure, table, "mean", "level", ("samples.parquet", "tokens < 2", 2), note="no such column")
    remember(figure, table, "mean", "level", OUTCOMES, note="no such input")
    given = [Point("given", None, file="samples.parquet", where="trial < 1")]
    name = "02_synthesis/samples.parquet"
    assert publish_points(tmp_path, figure, file, given) == [
        Point("level 1", 0.25, file=name, where="level == 1 and trial < 2", n=4),
        *(Point(f"level 1: {note}", 0.25) for note in ("left out", "no such column", "no such input")),
        Point("given", None, file=name, where="trial < 1", n=2),
    ]


def test_two_points_of_one_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a'"):
        publish_points(tmp_path, Figure(), simple(tmp_path)[0], [Point("a", 1.0), Point("a", 2.0)])


def test_a_sidecar_of_somebody_else_runs_nothing_and_reads_nothing_outside(tmp_path: Path) -> None:
    simple(tmp_path)
    name = "02_synthesis/samples.parquet"
    with pytest.raises(RecordError, match="pandas query string"):
        rows_of(tmp_path, Point("a", 1.0, file=name, where="__import__('os').system('x')"))
    with pytest.raises(RecordError, match="no rows of the run"):
        rows_of(tmp_path / "other", Point("a", 1.0, file=f"../{name}"))


def test_inputs_of_another_run_are_named_as_in_that_run(tmp_path: Path) -> None:
    """A notebook used interactively draws a run's files into a folder of its own."""
    file, _ = simple(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "interactive").mkdir()
    points = publish_points(tmp_path / "interactive", Figure(), file, [Point("a", 1.0, file="samples.parquet")])
    assert points[0].file == "02_synthesis/samples.parquet" and len(rows_of(tmp_path, points[0])) == 4


COMMITTED = sorted((REPOSITORY / "figures").glob("*.json"))


@pytest.mark.parametrize("sidecar", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_figure_is_walked_back_to_its_rows(sidecar: Path) -> None:
    """A thought experiment draws no data, and the pilot's students are recounted by `test_lessons_results`."""
    told = json.loads(sidecar.read_text(encoding="utf-8"))
    if told["notebook"] == "00_start_here" or sidecar.stem == "pilot_shares_of_levels":
        return
    points = points_of(sidecar)
    assert points and any(point.file for point in points) == bool(told["inputs"])
    for point in (point for point in points if point.file):
        assert sha256_of(REFERENCE / point.file) == told["inputs"][point.file]
        assert len(rows_of(REFERENCE, point)) == point.n


def test_a_condition_of_another_type_is_told(run: Path) -> None:
    point = Point("a bar", 1.0, file="02_synthesis/samples.parquet", where="verdict == 1", n=1)
    with pytest.raises(RecordError, match="samples.parquet: "):
        rows_of(run, point)
