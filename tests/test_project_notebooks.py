"""Committed notebooks: stripped, stable, readable, and in step with the profiles. And the linter that says so."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from notebook_rules import lint_notebook
from papermill import inspect_notebook
from tiny_repository import FOLDERS, notebook

from dartlib.files import RUNS
from dartlib.pipeline.notebooks import read_parameters
from dartlib.pipeline.profiles import NOTEBOOK_NAMES, PROFILES, load_profile
from dartlib.pipeline.stages import build_run

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = [REPOSITORY / "notebooks" / f"{name}.ipynb" for name in NOTEBOOK_NAMES]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
WRITES_METRICS = 'open("metrics.json", "w").close()'


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_follow_the_rules(path: Path) -> None:
    assert lint_notebook(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_reading_of_parameters_is_papermills(path: Path) -> None:
    """Papermill's inspection is another implementation: same names, types, defaults and help, in the same order."""
    theirs = inspect_notebook(str(path))
    ours = read_parameters(path)
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        assert parameter.help == theirs[name]["help"]
        assert parameter.kind == theirs[name]["inferred_type_name"]
        assert parameter.default == ast.literal_eval(theirs[name]["default"])


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_profiles_fit_the_notebooks(name: str) -> None:
    profile = load_profile(name)
    run = build_run(profile, RUNS / name, "")
    students = len(profile.strategies) * len(profile.training_seeds)
    assert profile.name == name
    assert len(run.stages) == 4 + students + students + 1  # 00, 01, 02, 05; 03 per student; 04 per student and base


def test_stripping_keeps_tags_and_ids(tmp_path: Path) -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    options = re.findall(r'"[^"]*"|\S+', next(hook["entry"] for hook in hooks if hook["id"] == "nbstripout"))[1:]
    node = notebook(FOLDERS, WRITES_METRICS)
    node.cells[3].outputs = [nbformat.v4.new_output("stream", text="hello")]
    node.cells[3].execution_count = 4
    path = tmp_path / "run.ipynb"
    nbformat.write(node, path)
    tool = shutil.which("nbstripout", path=str(Path(sys.executable).parent)) or "nbstripout"
    subprocess.run([tool, *(option.strip('"') for option in options), str(path)], check=True)
    stripped = nbformat.read(path, 4)
    assert [cell.id for cell in stripped.cells] == [cell.id for cell in node.cells]
    assert stripped.cells[1].metadata.tags == ["parameters"]
    assert stripped.cells[3].outputs == [] and stripped.cells[3].execution_count is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_bias_analysis", "05_paper_figures"])
def test_a_reader_opens_a_notebook_and_runs_all(tmp_path: Path, name: str) -> None:
    """As in JupyterLab, whose kernels start in notebooks/: the newest complete run is read, and named at the top."""
    node = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", 4)
    parameters = node.cells[1]
    parameters.source = parameters.source.replace("papermill_runs/interactive", str(tmp_path))  # where it may write
    started_in = {"metadata": {"path": str(REPOSITORY / "notebooks")}}
    NotebookClient(node, kernel_name="python3", resources=started_in).execute()
    outputs = next(cell for cell in node.cells[2:] if cell.cell_type == "code").outputs
    derived = "".join(output.text for output in outputs)  # a slow machine sends what is printed in pieces
    assert re.search(r"^run: papermill_runs/[a-z0-9-]+, the newest complete one \(finished 20", derived, re.MULTILINE)
    assert (tmp_path / name / "metrics.json").is_file() and list((tmp_path / "figures").glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["-p", "TRAILS", "8"], "this notebook: unknown parameter 'TRAILS': did you mean 'TRIALS'?"),
        (["-p", "TRIALS", "many"], "this notebook: parameter TRIALS is 'many' (str), expected int"),
        (["-p", "TRIALS", "8"], ""),
    ],
)
def test_plain_papermill_stops_at_a_misspelt_parameter(tmp_path: Path, option: list[str], message: str) -> None:
    """Papermill itself lets it through: the first derived cell does not."""
    node = nbformat.read(REPOSITORY / "notebooks" / "00_start_here.ipynb", 4)
    del node.cells[4:]
    nbformat.write(node, tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), *option]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (message == "") and message in done.stderr


def lint(tmp_path: Path, node: nbformat.NotebookNode) -> list[str]:
    (tmp_path / "toy.ipynb").write_text(json.dumps(node))  # nbformat's own writer repairs some faults
    return lint_notebook(tmp_path / "toy.ipynb")


def test_linter_accepts_a_good_notebook(tmp_path: Path) -> None:
    assert lint(tmp_path, notebook(FOLDERS, "x = 1", WRITES_METRICS)) == []


def _add_output(node: nbformat.NotebookNode) -> None:
    node.cells[3].execution_count = 1


def _wrong_kernel(node: nbformat.NotebookNode) -> None:
    node.metadata["kernelspec"]["name"] = "my-env"


def _no_prose(node: nbformat.NotebookNode) -> None:
    del node.cells[2]


def _no_identity(node: nbformat.NotebookNode) -> None:
    node.cells[2].id = node.cells[3].id


def _code_before_parameters(node: nbformat.NotebookNode) -> None:
    node.cells[:0] = [nbformat.v4.new_markdown_cell("First."), nbformat.v4.new_code_cell("y = 1")]


def _set(source: str) -> Callable[[nbformat.NotebookNode], None]:
    def change(node: nbformat.NotebookNode) -> None:
        node.cells[3].source = source

    return change


def _set_parameters(source: str) -> Callable[[nbformat.NotebookNode], None]:
    def change(node: nbformat.NotebookNode) -> None:
        node.cells[1].source = source

    return change


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (_add_output, "toy.ipynb: cell 4, line 1: has outputs or an execution count"),
        (_wrong_kernel, "toy.ipynb: kernelspec is 'my-env'"),
        (_no_prose, "toy.ipynb: cell 3, line 1: no prose before it"),
        (_no_identity, "toy.ipynb: cell ids are missing or repeated"),
        (_code_before_parameters, "toy.ipynb: the parameters cell is not the first code cell"),
        (_set("x = 1\n%matplotlib inline"), "toy.ipynb: cell 4, line 2: no magics"),
        (_set("!pip install x"), "toy.ipynb: cell 4, line 1: no magics"),
        (_set("\n".join(["x = 1"] * 19)), "toy.ipynb: cell 4, line 19: more than 18 lines"),
        (_set("import dartlib.sampling.pool"), "toy.ipynb: cell 4, line 1: import public names from dartlib.sampling"),
        (_set("x ="), "toy.ipynb: cell 4, line 1: invalid syntax"),
        (_set_parameters("N: int = 1 + 1  # sum"), "toy.ipynb: parameters cell, 'N: int = 1 + 1  # sum'"),
        (_set_parameters("N = 1  # untyped"), "toy.ipynb: parameters cell, 'N = 1  # untyped'"),
        (_set_parameters("N: int = 1  # n=1"), "toy.ipynb: cell 2, line 1: write NAME: type = literal"),
    ],
)  # fmt: skip
def test_linter_names_file_cell_and_line(
    tmp_path: Path, breaking: Callable[[nbformat.NotebookNode], None], message: str
) -> None:
    node = notebook(FOLDERS, "x = 1", WRITES_METRICS)
    breaking(node)
    found = lint(tmp_path, node)
    assert len(found) == 1 and found[0].startswith(message)


def test_linter_wants_metrics_and_a_tag(tmp_path: Path) -> None:
    assert lint(tmp_path, notebook(FOLDERS, "x = 1")) == ["toy.ipynb: the last code cell does not write metrics.json"]
    assert lint(tmp_path, notebook(None, WRITES_METRICS)) == [
        "toy.ipynb: 0 cells are tagged 'parameters', expected exactly one"
    ]


def test_an_executed_copy_of_every_notebook_is_kept_for_the_code_host() -> None:
    """All cells run to their end, no error, at most 10 MB in all; the reference run's, and notebook 06's own."""
    copies: dict[str, Path | None] = {path.stem: None for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    kept = sorted((REPOSITORY / "papermill_runs" / "reference").rglob("notebook.ipynb"))
    for path in kept:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells if "".join(cell["source"]).strip()), path
        assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"]), path
        copies[path.relative_to(REPOSITORY / "papermill_runs" / "reference").parts[0]] = path
    assert all(copies.values()) and sum(path.stat().st_size for path in kept) < 10e6
