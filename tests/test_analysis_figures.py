"""Figures: what is drawn, that hostile text stays text, and that saved files are stable and traceable."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartlib import analysis
from dartlib.analysis import escape, publish, table_html
from dartlib.published import load_published
from dartlib.records import Query, QueryOutcome, RecordError, write_records

HOSTILE = "<script>alert(1)</script> $x^2$ \\(y\\) ![i](http://evil) `code` | cell\u202e"


def outcomes(levels=True):
    """Twenty queries on two levels; Uniform and Prop2Diff fall short on the hard one."""
    rows = []
    for number in range(20):
        hard = number >= 10
        common = {"query_id": f"q{number:02d}", "level": (5 if hard else 1) if levels else None, "n_difficulty": 4}
        common |= {"n_difficulty_correct": 0 if hard else 4, "fail_rate": 1.0 if hard else 0.0, "cap": 16}
        rows.append(common | {"strategy": "vrt", "quota": None, "n_trials": 8, "n_correct": 0 if hard else 8})
        rows[-1]["status"] = "drawn"
        for strategy, quota in (("uniform", 4), ("prop2diff", 6 if hard else 1)):
            got, spent = (1, 16) if hard else (quota, quota)
            rows.append(common | {"strategy": strategy, "quota": quota, "n_trials": spent, "n_correct": got})
            rows[-1]["status"] = "cap" if hard else "met"
    return pd.DataFrame(rows)


def samples():
    rows = []
    for number in range(20):
        verdicts = ["wrong"] * 15 + ["correct"] if number >= 10 else ["correct"] * 8
        level = 5 if number >= 10 else 1
        rows += [
            {"query_id": f"q{number:02d}", "trial": t, "level": level, "verdict": v} for t, v in enumerate(verdicts)
        ]
    return pd.DataFrame(rows)


def items(models=("base", "vrt-seed1")):
    rows = [
        {"model": m, "query_id": f"q{n}", "source": HOSTILE, "level": 1 + n % 2, "verdict": ["correct", "wrong"][n % 2]}
        for m in models
        for n in range(10)
    ]
    return pd.DataFrame(rows).assign(trial=0)


def store_items(model, folder, **columns):
    frame = items((model,)).rename(columns={"source": "benchmark"}).assign(answer="1", **columns)
    frame.to_parquet(folder / "items.parquet")


def logs():
    return pd.DataFrame({"run": "vrt-seed1", "step": range(1, 9), "loss": np.linspace(2, 1, 8), "tokens": range(8)})


FIGURES = {
    "responses_by_level": lambda: analysis.responses_by_level_figure(outcomes()),
    "responses_by_level_without_levels": lambda: analysis.responses_by_level_figure(outcomes(levels=False)),
    "responses_by_rank": lambda: analysis.responses_by_rank_figure(outcomes(), samples()),
    "pass_rate_ladder": lambda: analysis.pass_rate_ladder_figure(analysis.pass_rates(samples(), 8)),
    "pass_at_k": lambda: analysis.pass_at_k_figure(analysis.pass_rates(samples(), 8), "5", 4),
    "coverage": lambda: analysis.coverage_by_level_figure(outcomes(), load_published("metamathqa_by_level")),
    "vrt_prediction": lambda: analysis.vrt_prediction_figure(samples(), 8),
    "cost": lambda: analysis.synthesis_cost_figure(outcomes(), samples()),
    "accuracy": lambda: analysis.accuracy_by_level_figure(items(), HOSTILE),
    "loss": lambda: analysis.training_loss_figure(logs()),
    "verdicts": lambda: analysis.verdict_shares_figure(analysis.verdict_table({HOSTILE: samples()})),
    "paper_1": lambda: analysis.published_averages_figure(
        load_published("average_accuracy"), load_published("responses_by_rank")
    ),
    "paper_3": lambda: analysis.published_scaling_figure(load_published("scaling")),
    "paper_4": lambda: analysis.published_cost_figure(load_published("synthesis_cost")),
    "paper_4_cover": lambda: analysis.published_cover_figure(load_published("one_response_coverage")),
}


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_has_title_labels_and_all_its_data(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    assert figure.get_suptitle()
    for axis in figure.axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel() or axis.get_title() or axis.get_yticklabels()
        top = axis.get_ylim()[1]
        for line in axis.get_lines():
            heights = np.asarray(line.get_ydata(), dtype=float)
            assert np.nanmax(heights, initial=0) <= top * 1.001, "a curve leaves the picture"
        for bar in axis.patches:
            assert name == "verdicts" or bar.get_y() + bar.get_height() <= top * 1.001


def test_the_shortfall_is_hatched_and_reaches_the_quota():
    figure = analysis.responses_by_level_figure(outcomes())
    prop2diff = figure.axes[2]
    hatched = [bar for bar in prop2diff.patches if bar.get_hatch()]
    tops = [bar.get_y() + bar.get_height() for bar in hatched]
    assert tops == [1.0, 6.0]
    assert [bar.get_height() for bar in hatched] == [0.0, 5.0]
    assert "shortfall (cap reached)" in [text.get_text() for text in prop2diff.get_legend().get_texts()]
    assert not [bar for bar in figure.axes[0].patches if bar.get_hatch()]


def test_none_right_is_a_hollow_mark_and_some_right_is_not():
    """Level 2 has no correct answer: its mark is hollow, so that its interval is not read as its value."""
    axis = analysis.accuracy_by_level_figure(items(), HOSTILE).axes[0]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert len(hollow) == 2 and all(list(line.get_ydata()) == [0] for line in hollow)  # one for each model
    assert all(0.5 < line.get_xdata()[0] < 1.5 for line in hollow)  # groups 1, 2, all stand at 0, 1, 2


def test_strategies_that_coincide_are_both_seen():
    """Uniform and Prop2Diff cost the same on level 5: the later is thinner and its marks are smaller."""
    left = analysis.synthesis_cost_figure(outcomes(), samples()).axes[0]
    drawn = [line for line in left.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    for look in ("get_linewidth", "get_markersize"):
        sizes = [getattr(line, look)() for line in drawn]
        assert len(sizes) == 3 and sizes == sorted(set(sizes), reverse=True)


def test_a_published_figure_is_stable_and_traceable(tmp_path):
    data = tmp_path / "run-a" / "02_synthesis" / "outcomes.parquet"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"rows")
    outside = tmp_path / "elsewhere.jsonl"
    outside.write_text("{}")
    folder = tmp_path / "run-a" / "figures"
    sidecar = {"folder": folder, "notebook": "05_paper_figures", "inputs": [data, str(outside)], "queries": 20}
    first = {}
    for _ in range(2):
        publish(FIGURES["cost"](), "v1.2_cost", "c", **sidecar)
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert not first or first == found
        first = found
    assert sorted(first) == ["v1.2_cost.json", "v1.2_cost.pdf", "v1.2_cost.png"]
    written = json.loads(first["v1.2_cost.json"])
    assert written["inputs"] == {
        "02_synthesis/outcomes.parquet": hashlib.sha256(b"rows").hexdigest(),
        "elsewhere.jsonl": hashlib.sha256(b"{}").hexdigest(),
    }
    assert (written["run"], written["queries"], written["title"]) == ("run-a", 20, "Cost of synthesis (20 queries)")
    assert str(tmp_path) not in first["v1.2_cost.json"].decode()


def test_no_figure_is_saved_unseen(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    publish(FIGURES["loss"](), "loss", "Loss", folder=tmp_path / "figures", notebook="03_training")
    assert len(shown) == 1 and (tmp_path / "figures" / "loss.png").is_file()


def test_a_figure_of_a_missing_input_is_not_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        publish(FIGURES["loss"](), "f", "", folder=tmp_path / "figures", notebook="", inputs=[tmp_path / "absent"])
    assert not list(tmp_path.iterdir())


def test_several_sets_are_told_apart_and_stay_in_their_group():
    from dartlib.analysis.style import side_by_side

    names = ["mine", "vrt", "yours"]
    several = pd.concat([outcomes().query("strategy == 'vrt'").assign(strategy=name) for name in names])
    figure = analysis.coverage_by_level_figure(several)
    drawn = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines if line.get_marker() in "osvpX^"]
    assert len(set(drawn)) == 3
    for count in (1, 2, 9):
        assert max(side_by_side(2, count - 1, count) - [0, 1]) < 0.45


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@given(st.text(st.characters(exclude_categories=["C"], include_characters="\n\t")))
def test_escaped_text_reads_the_same_and_holds_no_markup(text):
    page = _Page()
    page.feed(escape(text))
    page.close()
    assert page.text == text
    assert set(page.tags) <= {"span"}
    assert not set(escape(text).replace("<span>", "").replace("</span>", "")) & set("<>$\\`*_[]|\"'\n")


def test_escape_shows_control_characters_and_defuses_mathtext():
    assert escape("a\u202eb\x1b[0m\u200b") == "a\ufffdb\ufffd&#91;0m\ufffd"
    assert escape("$5 and $6", "figure") == r"\$5 and \$6"
    with pytest.raises(ValueError, match="'tex'"):
        escape("x", "tex")  # type: ignore[arg-type]


def test_a_hostile_table_and_title_show_their_characters():
    page = _Page()
    page.feed(table_html(pd.DataFrame({HOSTILE: [HOSTILE, "x" * 500]}), HOSTILE, limit=100))
    assert set(page.tags) == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span"}
    assert page.text.count("<script>alert(1)</script> $x^2$") == 3
    assert "… (500 characters)" in page.text
    figure = FIGURES["accuracy"]()
    figure.draw_without_rendering()  # mathtext of a broken formula would raise here
    assert r"\$x^2\$" in figure.get_suptitle()


def test_texts_are_read_for_the_wanted_queries_only(tmp_path):
    frame = samples().assign(answer="1", response="r")
    frame.to_parquet(tmp_path / "samples.parquet")
    assert set(analysis.read_samples(tmp_path / "samples.parquet").columns) == {"query_id", "trial", "level", "verdict"}
    texts = analysis.read_texts(tmp_path / "samples.parquet", ["q03", "q12"])
    assert texts["query_id"].value_counts().to_dict() == {"q03": 8, "q12": 16}
    assert texts["response"].eq("r").all()


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(RecordError, match="no such file"):
        analysis.read_samples(tmp_path / "samples.parquet")
    samples().assign(verdict=1).to_parquet(tmp_path / "samples.parquet")
    with pytest.raises(RecordError, match="samples.parquet: column 'verdict' is int64, expected string"):
        analysis.read_samples(tmp_path / "samples.parquet")
    with pytest.raises(RecordError, match="no such file"):
        analysis.read_outcomes(tmp_path / "outcomes.parquet")
    with pytest.raises(analysis.AnalysisError, match="evaluation stage"):
        analysis.read_items(analysis.find_items(tmp_path))


def test_models_come_in_the_order_of_the_method(tmp_path):
    names = ["zephyr", "prop2diff-seed2", "uniform-seed1", "base", "vrt-seed1", "prop2diff-seed1"]
    for name in names:
        folder = tmp_path / "04_evaluation" / name
        folder.mkdir(parents=True)
        store_items(name, folder, response="r")
    expected = ["base", "vrt-seed1", "uniform-seed1", "prop2diff-seed1", "prop2diff-seed2", "zephyr"]
    assert list(analysis.find_items(tmp_path)) == expected
    assert list(dict.fromkeys(analysis.read_items(analysis.find_items(tmp_path))["model"])) == expected


def test_importing_the_room_is_light():
    heavy = "torch vllm transformers datasets sympy pandas matplotlib scipy".split()
    code = f"import sys, dartlib.analysis, dartlib.published; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_both_notebooks_run_on_a_small_run_folder(tmp_path):
    papermill = pytest.importorskip("papermill")
    from dartlib.pipeline import repository_path

    run = tmp_path / "run"
    synthesis = run / "02_synthesis"
    rows = outcomes().astype({"quota": object}).where(lambda frame: frame.notna(), None).to_dict("records")
    write_records(synthesis / "outcomes.parquet", [QueryOutcome(**row) for row in rows], QueryOutcome)
    queries = [Query(f"q{n:02d}", "ladder", HOSTILE, "1", level=1 if n < 10 else 5) for n in range(20)]
    write_records(synthesis / "queries.parquet", queries, Query)
    extra = {"answer": "1", "n_tokens": 3, "finish_reason": "stop", "response": HOSTILE}
    samples().assign(**extra).to_parquet(synthesis / "samples.parquet")
    (synthesis / "metrics.json").write_text("{}")
    for model in ("base", "vrt-seed1", "prop2diff-seed1"):
        folder = run / "04_evaluation" / model
        folder.mkdir(parents=True)
        store_items(model, folder, benchmark="ladder", response=HOSTILE)
        (folder / "metrics.json").write_text('{"verdicts": {"error": 1}}')
    (run / "03_training" / "vrt-seed1").mkdir(parents=True)
    log = logs().assign(lr=0.1, seconds=1.0).drop(columns="run")
    log.to_json(run / "03_training" / "vrt-seed1" / "training_log.jsonl", orient="records", lines=True)
    for name in ("01_bias_analysis", "05_paper_figures"):
        places = {"RUN_FOLDER": str(run), "STAGE_FOLDER": str(run / name)}
        source, copy = repository_path(f"notebooks/{name}.ipynb"), tmp_path / f"{name}.ipynb"
        papermill.execute_notebook(str(source), str(copy), places, progress_bar=False)
        assert "<script>alert" not in copy.read_text(encoding="utf-8")
    metrics = json.loads((run / "05_paper_figures" / "metrics.json").read_text())
    assert metrics["primary"][0]["difference"] == 0.0  # the made-up models answer alike
    assert len(metrics["figures"]) >= 12
    for stem in metrics["figures"]:
        assert (run / "figures" / f"{stem}.png").stat().st_size > 10_000
        assert (run / "figures" / f"{stem}.pdf").is_file()
