"""The one staleness rule: what makes a stage run again, what does not, and what becomes of earlier results."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from tiny_repository import FOLDERS, PARAMETERS, PROFILE, last_cell, write_notebook

from dartlib import files
from dartlib.pipeline import digest, manifests, stages
from dartlib.pipeline.digest import content_of, differences, digest_of, stage_inputs, with_fetched
from dartlib.pipeline.manifests import build_manifest
from dartlib.pipeline.profiles import check_profile
from dartlib.pipeline.stages import Run, build_run, load_run, save_run
from dartlib.pipeline.status import stage_states
from dartlib.pipeline.superseded import made_stages, make_way, put_aside
from dartlib.records import write_manifest
from dartlib.training import recipe

MADE = {
    "02": (
        "queries.parquet",
        "outcomes.parquet",
        "samples.parquet",
        "datasets/vrt.parquet",
        "datasets/uniform.parquet",
    ),
    "03": ("checkpoint/model.safetensors", "training_log.jsonl"),
    "04": ("items.parquet",),
}


class Toy:
    """Toy notebooks and a run folder whose stages are completed by hand: no kernel, no workflow."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "papermill_runs" / "toy"
        (root / "notebooks").mkdir(parents=True)
        for name in PARAMETERS:
            self.write(name)

    def write(self, name: str, cell: str = "", replace: tuple[str, str] = ("", "")) -> Path:
        lines = [line.replace(*replace) for line in FOLDERS + PARAMETERS[name]]
        return write_notebook(self.root / "notebooks" / f"{name}.ipynb", lines, cell or last_cell(name))

    def run(self, **changes: Any) -> Run:
        return build_run(check_profile({**PROFILE, **changes}, "toy.yaml"), self.folder, "dartlib run toy")

    def synthesis(self, **parameters: Any) -> Run:
        """A run with these parameters of the synthesis."""
        return self.run(notebooks={**PROFILE["notebooks"], "02_synthesis": parameters})

    def complete(self, run: Run, *names: str, text: Callable[[str], str] = lambda name: name) -> None:
        """Complete stages (all by default), each file holding ``text`` of its name."""
        for stage in run.stages:
            if names and stage.name not in names:
                continue
            for name in (*MADE.get(stage.notebook[:2], ()), "metrics.json"):
                path = self.folder / stage.name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text(name))
            manifest = build_manifest(run, stage, self.folder, stage_inputs(stage, self.folder), 0.0, 1.0)
            write_manifest(self.folder / stage.name / "manifest.json", manifest)

    def states(self, run: Run) -> dict[str, str]:
        return {name: state for name, (state, _) in stage_states(run, self.folder).items() if state != "complete"}

    def note(self, run: Run, name: str) -> str:
        return stage_states(run, self.folder)[name][1]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    toy = Toy(tmp_path / "clone")
    for module in (stages, digest, manifests):
        monkeypatch.setattr(module, "NOTEBOOKS", toy.root / "notebooks")
    for module in (files, stages, digest, manifests):
        monkeypatch.setattr(module, "REPOSITORY", toy.root)
    return toy


FOLLOWING = {
    "01_bias_analysis": "waiting",
    "03_training/vrt-seed1": "waiting",
    "03_training/uniform-seed1": "waiting",
    "04_evaluation/vrt-seed1": "waiting",
    "04_evaluation/uniform-seed1": "waiting",
    "05_paper_figures": "waiting",
}


def test_a_completed_run_is_complete_and_says_by_which_commit(toy: Toy) -> None:
    run = toy.run()
    assert set(toy.states(run).values()) == {"missing"}
    toy.complete(run)
    assert toy.states(run) == {}
    assert toy.note(run, "00_start_here") == "1 s, finished 1970-01-01T00:00:01Z, commit unknown"


def test_saving_a_notebook_in_jupyterlab_changes_nothing(toy: Toy) -> None:
    """Outputs, counts, prose and what a parameter's help says are not the code; a cell's source is."""
    run = toy.run()
    toy.complete(run)
    path = toy.root / "notebooks" / "03_training.ipynb"
    node = nbformat.read(path, 4)
    node.cells[3].outputs = [nbformat.v4.new_output("stream", text="hello")]
    node.cells[3].execution_count = 7
    node.cells[3].metadata["collapsed"] = True
    node.cells[2].source = "What this really does."
    node.cells[1].source = node.cells[1].source.replace("# passes over the data", "# epochs")
    nbformat.write(node, path)
    assert toy.states(run) == {}
    toy.write("03_training", "other = True")
    assert toy.states(run)["03_training/vrt-seed1"] == "outdated"
    assert toy.note(run, "03_training/vrt-seed1") == "changed: the notebook's cells"
    assert toy.states(run)["04_evaluation/vrt-seed1"] == "waiting"
    assert "04_evaluation/base" not in toy.states(run)


def test_a_default_of_the_notebook_counts_like_a_given_value(toy: Toy) -> None:
    run = toy.run()
    toy.complete(run)
    toy.write("02_synthesis", replace=("TEMPERATURE: float = 0.8", "TEMPERATURE: float = 0.9"))
    assert toy.states(run) == {"02_synthesis": "outdated", **FOLLOWING}
    assert toy.note(run, "02_synthesis") == "changed: TEMPERATURE: 0.8 -> 0.9"
    assert toy.states(toy.synthesis(UNIFORM_QUOTA=5, TEMPERATURE=0.8)) == {}


def test_an_integer_and_its_float_are_one_value(toy: Toy) -> None:
    toy.complete(toy.synthesis(TEMPERATURE=1))
    assert toy.states(toy.synthesis(TEMPERATURE=1.0)) == {}


def test_a_larger_quota_of_one_strategy_leaves_the_other_strategys_student(toy: Toy) -> None:
    """Uniform's data set is another one, VRT's is the same to the byte: its student need not be trained again."""
    run = toy.run()
    toy.complete(run)
    larger = toy.synthesis(UNIFORM_QUOTA=9)
    assert toy.note(larger, "02_synthesis") == "changed: UNIFORM_QUOTA: 5 -> 9"
    assert toy.note(larger, "03_training/vrt-seed1") == "runs again if 02_synthesis makes other files for it"
    toy.complete(larger, "02_synthesis", text=lambda name: name + ("+" if "uniform" in name else ""))
    assert toy.states(larger) == {
        "03_training/uniform-seed1": "outdated",
        "04_evaluation/uniform-seed1": "outdated",  # it tells how much of a benchmark is in the training set
        "05_paper_figures": "waiting",
    }
    assert toy.note(larger, "03_training/uniform-seed1") == "changed: 02_synthesis/datasets/uniform.parquet"


@pytest.mark.parametrize(
    ("version", "outdated"),
    [
        ("GRADER_VERSION", {"00_start_here", "01_bias_analysis", "02_synthesis", "04_evaluation"}),
        ("SAMPLING_VERSION", {"02_synthesis", "04_evaluation"}),
        ("TRAINING_VERSION", {"03_training"}),
    ],
)
def test_a_raised_version_reruns_what_depends_on_it(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, version: str, outdated: set[str]
) -> None:
    run = toy.run()
    toy.complete(run)
    before = digest.VERSIONS[version]
    monkeypatch.setitem(digest.VERSIONS, version, "next")
    states = stage_states(run, toy.folder)
    assert {name.partition("/")[0] for name, (state, _) in states.items() if state == "outdated"} == outdated
    told = {note for state, note in states.values() if state == "outdated"}
    assert told == {f"changed: {version}: {before!r} -> 'next'"}


def test_nothing_hangs_on_a_path(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clone is moved, and the run folder in it renamed."""
    (toy.root / "own").mkdir()
    (toy.root / "own" / "config.json").write_text("{}")
    for model in ("own", str(toy.root / "own")):
        run = toy.run(teacher=model)
        toy.complete(run)
        assert str(toy.root) not in json.dumps([stage_inputs(stage, toy.folder) for stage in run.stages])
        save_run(run, toy.folder / "run.json")
    moved = toy.root.rename(toy.root.with_name("moved"))
    toy.folder = moved / "papermill_runs" / "renamed"
    (moved / "papermill_runs" / "toy").rename(toy.folder)
    for module in (stages, digest, manifests):
        monkeypatch.setattr(module, "NOTEBOOKS", moved / "notebooks")
        monkeypatch.setattr(module, "REPOSITORY", moved)
    states = stage_states(load_run(toy.folder / "run.json"), toy.folder)
    assert {state for state, _ in states.values()} == {"complete"}


def test_content_of_named_files_folders_lists_and_known_sets(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    problems, folder, data = toy.root / "own.jsonl", toy.root / "model", toy.root / "data"
    folder.mkdir()
    data.mkdir()
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(data))
    known = "math-test"
    values = {"A": "own.jsonl", "B": str(problems), "C": "model", "D": ["own.jsonl", "ladder-x"], "E": known}

    def contents() -> dict[str, Any]:
        return {name: content_of(value) for name, value in values.items()}

    before = contents()
    empty = {"model": files.content_digest(folder)}
    assert before == {**values, "B": "own.jsonl", "C": empty}
    problems.write_text("one")
    (folder / "x.safetensors").write_text("one")
    (data / f"{known}.jsonl").write_text("one")
    first = contents()
    for path in (problems, folder / "x.safetensors", data / f"{known}.jsonl"):
        path.write_text("two")
    second = contents()
    assert differences(first, second) == [
        "content of A 'own.jsonl'",
        "content of B 'own.jsonl'",
        "content of C 'model'",
        "content of D ['own.jsonl', 'ladder-x']",
        f"content of E {known!r}",
    ]
    assert with_fetched(before, second) == {**second, "C": empty}, "what came meanwhile, not what changed"
    assert with_fetched(first, second) == first


def test_several_known_sets_count_by_each_ones_file(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(toy.root))
    both = "math-train:20,gsm8k-train"
    assert content_of(both) == both, "neither is here"
    (toy.root / "math-train.jsonl").write_text("one")
    assert content_of(both) == both, "and so is fetched by the stage, which then counts both"
    (toy.root / "gsm8k-train.jsonl").write_text("one")
    first = content_of(both)
    (toy.root / "gsm8k-train.jsonl").write_text("two")
    second = content_of(both)
    assert differences({"Q": first}, {"Q": second}) == [f"content of Q {both!r}"]
    assert content_of("math-train:20") != content_of("math-train:21"), "another part"


def test_an_edited_problem_file_reruns_what_reads_it(toy: Toy) -> None:
    """Named by one parameter of the synthesis, and in a list of the evaluation."""
    (toy.root / "own.jsonl").write_text("one")
    (toy.root / "test.jsonl").write_text("one")
    evaluation = {"BENCHMARKS": ["ladder-arithmetic", "test.jsonl"]}
    run = toy.run(notebooks={"02_synthesis": {"QUERIES": "own.jsonl"}, "04_evaluation": evaluation})
    toy.complete(run)
    (toy.root / "own.jsonl").write_text("two")
    assert toy.states(run) == {"02_synthesis": "outdated", **FOLLOWING}
    assert toy.note(run, "02_synthesis") == "changed: content of QUERIES 'own.jsonl'"
    toy.complete(run)
    (toy.root / "test.jsonl").write_text("two")
    assert {name.partition("/")[0] for name in toy.states(run)} == {"04_evaluation", "05_paper_figures"}
    assert toy.note(run, "04_evaluation/base") == "changed: content of BENCHMARKS ['ladder-arithmetic', 'test.jsonl']"


def test_an_edited_recipe_reruns_what_names_it(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named without its folder and ending, as profiles do; another recipe beside it does not count."""
    recipes = toy.root / "recipes"
    recipes.mkdir()
    monkeypatch.setattr(recipe, "RECIPES", recipes)
    (recipes / "two-processes.yaml").write_text("processes: 2")
    toy.write("03_training", replace=("SEED: int", 'RECIPE: str = "two-processes"  # how\nSEED: int'))
    run = toy.run()
    toy.complete(run)
    (recipes / "other.yaml").write_text("processes: 4")
    assert toy.states(run) == {}
    (recipes / "two-processes.yaml").write_text("processes: 3")
    trainings = {name for name, state in toy.states(run).items() if state == "outdated"}
    assert trainings == {"03_training/vrt-seed1", "03_training/uniform-seed1"}
    assert toy.note(run, "03_training/vrt-seed1") == "changed: content of RECIPE 'two-processes.yaml'"


def test_a_shared_pool_that_grows_is_no_change(toy: Toy) -> None:
    pool = toy.root / "pool" / "a1b2"
    before = content_of("pool")
    pool.mkdir(parents=True)
    (pool / "setting.json").write_text("{}")
    assert content_of("pool") == before == "pool"
    assert content_of(str(toy.root / "pool")) == "pool"


def test_a_path_typed_in_another_folder_is_the_file_of_that_folder(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dartlib run --set` counts from the root and else from where it is typed; notebooks run in the root."""
    (tmp_path / "mine.v1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert toy.run(teacher="mine.v1").stage("02_synthesis").parameters["MODEL"] == str(tmp_path / "mine.v1")
    (toy.root / "mine.v1").mkdir()
    assert toy.run(teacher="mine.v1").stage("02_synthesis").parameters["MODEL"] == "mine.v1"
    (tmp_path / "local").mkdir()
    assert toy.run(engine="local").stage("02_synthesis").parameters["ENGINE"] == "local", "a word is no path"


def test_manifests_list_all_parameters_and_only_their_own_figures(toy: Toy) -> None:
    run = toy.run()
    figures = toy.folder / "figures"
    figures.mkdir(parents=True)
    for name, stage in {"a": "03_training/vrt-seed1", "b": "03_training/uniform-seed1"}.items():
        (figures / f"{name}.json").write_text(json.dumps({"notebook": "03_training", "stage": stage}))
        (figures / f"{name}.png").write_text("picture")
    toy.complete(run)
    manifest = json.loads((toy.folder / "03_training/vrt-seed1/manifest.json").read_text())
    own = [name for name in manifest["outputs"] if name.startswith("figures/")]
    assert own == ["figures/a.json", "figures/a.png"]
    base = json.loads((toy.folder / "04_evaluation/base/manifest.json").read_text())
    assert base["parameters"] == {
        "ENGINE": "local",
        "MODEL": "embedded",
        "MODEL_NAME": "base",
        "TEMPERATURE": 0.0,
        "BENCHMARKS": ["ladder-arithmetic"],
        "TRAINING_SET": "",
        "RUN_FOLDER": "papermill_runs/toy",
        "STAGE_FOLDER": "papermill_runs/toy/04_evaluation/base",
    }
    assert manifest["digest"] == digest_of(manifest["inputs"])
    assert set(manifest["inputs"]) == {
        "stage", "notebook", "BASE_MODEL", "SEED", "EPOCHS", "02_synthesis/datasets/vrt.parquet", "TRAINING_VERSION",
    }  # fmt: skip


def test_earlier_results_make_way_with_their_figures_and_come_back(tmp_path: Path) -> None:
    stage, figures = tmp_path / "03_training" / "vrt", tmp_path / "figures"
    assert make_way("03_training/vrt", tmp_path, "a" * 64) == ""
    figures.mkdir()
    (figures / "loss.json").write_text('{"stage": "03_training/vrt"}')
    (figures / "loss.png").write_text("picture")
    (figures / "other.json").write_text('{"stage": "02_synthesis"}')
    (stage / "checkpoint").mkdir()
    (stage / "checkpoint" / "weights").write_text("of a")
    (stage / "pool" / "s1").mkdir(parents=True)
    (stage / "pool" / "s1" / "setting.json").write_text("{}")
    assert make_way("03_training/vrt", tmp_path, "a" * 64) == "", "begun with the same digest: it goes on"
    said = make_way("03_training/vrt", tmp_path, "b" * 64)
    assert said == "what it rests on has changed: its earlier results wait in superseded/\n"
    assert sorted(path.name for path in stage.iterdir()) == ["begun.txt", "pool"]
    assert [path.name for path in figures.iterdir()] == ["other.json"]
    assert made_stages(tmp_path) == {"03_training/vrt"}
    waiting = tmp_path / "superseded" / ("a" * 16)
    assert (waiting / "03_training/vrt/checkpoint/weights").read_text() == "of a"
    (stage / "partial").write_text("of b")
    said = make_way("03_training/vrt", tmp_path, "a" * 64)
    assert "taken back" in said and not waiting.exists()
    assert sorted(path.name for path in stage.iterdir()) == ["begun.txt", "checkpoint", "pool"]
    assert sorted(path.name for path in figures.iterdir()) == ["loss.json", "loss.png", "other.json"]
    make_way("03_training/vrt", tmp_path, "b" * 64)
    assert (stage / "partial").read_text() == "of b", "what was only begun comes back, too"


@pytest.mark.parametrize("moved", range(5))
def test_a_move_that_was_cut_short_is_finished_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """Killed after so many renames, on the way out and on the way back: nothing is lost, nothing is mixed."""
    stage = tmp_path / "s"
    content = {f"{name}.txt": name for name in ("one", "two", "three")} | {"manifest.json": "done"}
    make_way("s", tmp_path, "a" * 64)
    for name, text in content.items():
        (stage / name).write_text(text)
    rename, left = Path.rename, moved

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return rename(path, target)

    for wanted, expected in (("b" * 64, {}), ("a" * 64, content)):
        left = moved
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "rename", dying)
            make_way("s", tmp_path, wanted)
            raise KeyboardInterrupt  # so few were to move that it did not die
        make_way("s", tmp_path, wanted)
        found = {path.name: path.read_text() for path in stage.iterdir() if path.name != "begun.txt"}
        assert found == expected


def test_a_clones_complete_stage_stays_when_it_is_only_checked(toy: Toy) -> None:
    """A clone has manifests but no begun.txt; a known set fetched meanwhile makes the manifest's digest another one."""
    run = toy.run()
    toy.complete(run)
    wanted = digest_of(stage_inputs(run.stage("03_training/vrt-seed1"), toy.folder))
    assert make_way("03_training/vrt-seed1", toy.folder, wanted) == ""
    (toy.folder / "03_training/vrt-seed1/begun.txt").write_text("before the set was fetched")
    assert make_way("03_training/vrt-seed1", toy.folder, wanted) == ""
    assert toy.states(run) == {}


def test_put_aside_leaves_a_folder_with_nothing_but_pools(tmp_path: Path) -> None:
    (tmp_path / "s" / "temperature" / "s1").mkdir(parents=True)
    (tmp_path / "s" / "temperature" / "s1" / "setting.json").write_text("{}")
    (tmp_path / "s" / "log.txt").write_text("begun")
    assert not put_aside("s", tmp_path)
    (tmp_path / "s" / "key.json").write_text("of an earlier version")
    assert put_aside("s", tmp_path)
    assert list((tmp_path / "superseded").glob("2*/s/key.json"))
    assert (tmp_path / "s" / "temperature" / "s1" / "setting.json").is_file()


def test_the_commit_is_recorded_and_decides_nothing(toy: Toy) -> None:
    git = ["git", "-C", str(toy.root), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    run = toy.run()
    for message in ("one", "two"):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
        if message == "one":
            toy.complete(run)
    assert toy.states(run) == {}
    first = subprocess.run([*git, "rev-parse", "HEAD~"], capture_output=True, text=True, check=True).stdout.strip()
    assert f"commit {first[:10]} with changes" in toy.note(run, "00_start_here")


def test_a_file_named_in_an_option_counts_by_its_content(tmp_path: Path) -> None:
    rates = tmp_path / "rates.jsonl"
    seen = []
    for text in ("one", "two", "one"):
        rates.write_text(text)
        seen.append(content_of({"pass_rates": str(rates), "exponent": 1.0}))
    assert seen[0] == seen[2] != seen[1] and str(tmp_path) not in json.dumps(seen)
