"""A tiny copy of the repository for the pipeline's tests: the real package, toy notebooks, a toy profile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ['RUN_FOLDER: str = ""  # run folder', 'STAGE_FOLDER: str = ""  # where this notebook writes']
FINISH = [
    "import json, pathlib, time",
    "folder = pathlib.Path(STAGE_FOLDER)",
    'with open(folder / "times_run.txt", "a") as handle:',
    '    handle.write("x")',
    '(folder / "metrics.json").write_text(json.dumps({"ok": 1}))',
]
MAKE = (
    "def make(name, text):\n    path = folder / name\n    path.parent.mkdir(exist_ok=True)\n    path.write_text(text)"
)
MADE = {  # what the real notebooks leave for later ones; in place of their numbers, the settings these depend on
    "02_synthesis": [
        MAKE,
        "for name in ('queries', 'outcomes', 'samples'):\n    make(f'{name}.parquet', f'{SAMPLING_SEED}')",
        "for name in STRATEGIES:\n    quota = UNIFORM_QUOTA if name == 'uniform' else 0",
        "    make(f'datasets/{name}.parquet', f'{SAMPLING_SEED} {name} {quota}')",
    ],
    "03_training": [
        MAKE,
        "make('checkpoint/model.safetensors', open(DATASET).read() + f' {EPOCHS}')",
        "make('training_log.jsonl', f'{EPOCHS}')",
    ],
    "04_evaluation": [MAKE, "make('items.parquet', MODEL_NAME)"],
}
PARAMETERS = {
    "00_start_here": ["TRIALS: int = 16  # of the thought experiment"],
    "01_bias_analysis": [],
    "02_synthesis": [
        'ENGINE: str = "auto"  # engine',
        'MODEL: str = "embedded"  # teacher',
        'QUERIES: str = "ladder-arithmetic"  # a ladder or a file',
        "SAMPLING_SEED: int = 0  # seed",
        'STRATEGIES: list[str] = ["vrt"]  # strategies',
        "UNIFORM_QUOTA: int = 4  # correct responses per query",
        "TEMPERATURE: float = 0.8  # of sampling",
    ],
    "03_training": [
        'DATASET: str = ""  # data set',
        'BASE_MODEL: str = "embedded"  # model to train',
        "SEED: int = 0  # seed",
        "EPOCHS: int = 1  # passes over the data",
    ],
    "04_evaluation": [
        'ENGINE: str = "auto"  # engine',
        'MODEL: str = "embedded"  # model',
        'MODEL_NAME: str = "base"  # its name',
        "TEMPERATURE: float = 0.0  # of sampling",
        'TRAINING_SET: str = ""  # its data',
        'BENCHMARKS: list = ["ladder-arithmetic"]  # ladders or files',
    ],
    "05_paper_figures": [],
}
PROFILE = {
    "name": "toy",
    "description": "toy notebooks",
    "engine": "local",
    "teacher": "embedded",
    "base_model": "embedded",
    "sampling_seed": 7,
    "training_seeds": [1],
    "strategies": ["vrt", "uniform"],
    "disk_gb": 0.001,
    "cell_timeout_minutes": 2,
    "notebooks": {"02_synthesis": {"UNIFORM_QUOTA": 5}, "03_training": {"EPOCHS": 2}},
}


def notebook(parameters: list[str] | None, *cells: str) -> nbformat.NotebookNode:
    """A notebook with a parameters cell (None: without its tag) and code cells, prose before each."""
    node = nbformat.v4.new_notebook()
    node.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for source in ("\n".join(parameters or FOLDERS), *cells):
        node.cells.append(nbformat.v4.new_markdown_cell("What this does."))
        node.cells.append(nbformat.v4.new_code_cell(source))
    if parameters is not None:
        node.cells[1].metadata["tags"] = ["parameters"]
    return node


def write_notebook(path: Path, parameters: list[str] | None, *cells: str) -> Path:
    """Write such a notebook and return its path."""
    nbformat.write(notebook(parameters, *cells), path)
    return path


def last_cell(name: str) -> str:
    """The cell of a toy notebook that counts its runs and writes what the real one does."""
    return "\n".join(FINISH + MADE.get(name, []))


class TinyRepository:
    """A folder with the real package and Snakefile but toy notebooks; commands run there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / "dartlib", root / "dartlib", ignore=ignored)
        (root / "notebooks").mkdir()
        (root / "papermill_runs" / "profiles").mkdir(parents=True)
        shutil.copy(REPOSITORY / "papermill_runs" / "Snakefile", root / "papermill_runs" / "Snakefile")
        for name in PARAMETERS:
            self.write(name, last_cell(name))
        self.profile()

    def write(self, name: str, *cells: str) -> None:
        """Replace a toy notebook's code cells."""
        write_notebook(self.root / "notebooks" / f"{name}.ipynb", FOLDERS + PARAMETERS[name], *cells)

    def profile(self, **changes: object) -> None:
        """Write the toy profile with changed keys."""
        text = yaml.safe_dump({**PROFILE, **changes}, sort_keys=False)
        (self.root / "papermill_runs" / "profiles" / "toy.yaml").write_text(text)

    @property
    def run_folder(self) -> Path:
        """The toy run's folder."""
        return self.root / "papermill_runs" / "toy"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `dartlib <arguments>` in the background, output in pipes."""
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        command = [sys.executable, "-m", "dartlib.pipeline.cli", *arguments]
        return subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def dartlib(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `dartlib <arguments>` to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def times_run(self, stage: str) -> int:
        """How often a stage's last cell has run in its present folder."""
        file = self.run_folder / stage / "times_run.txt"
        return len(file.read_text()) if file.is_file() else 0
