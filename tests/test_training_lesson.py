"""Notebook 03 as a lesson, on a tiny random model: what it builds by hand is what dartlib does, and faults show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from training_toys import model, write_dataset, write_model

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def conversations(dataset: Path) -> Path:
    """The same rows as a set of conversations has them: no query, no response, no level."""
    rows = pq.read_table(dataset, columns=["query", "response"]).to_pylist()
    speakers = [("user", "query"), ("assistant", "response")]
    chats = [{"messages": [{"role": role, "content": row[column]} for role, column in speakers]} for row in rows]
    path = dataset.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    return path


def run_lesson(folder: Path, old: str = "", new: str = "") -> str:
    """Run the notebook up to the training of section 5, with one piece of its code replaced; all that it printed."""
    node = nbformat.read(REPOSITORY / "notebooks" / "03_training.ipynb", 4)
    values = dict(
        RUN_FOLDER=str(folder / "run"),
        STAGE_FOLDER=str(folder / "stage"),
        DATASET=str(conversations(write_dataset(folder / "rows.parquet"))),
        BASE_MODEL=str(write_model(folder / "model", model(initializer_range=0.1))),
        LEARNING_RATE=1e-5,
    )
    sources = [cell.source for cell in node.cells]
    end = next(number for number, source in enumerate(sources) if source.startswith("## 4 · One step"))
    end = next(number for number in range(end, len(sources)) if "def share_moved" in sources[number]) + 1
    del node.cells[end:]
    assert not old or sum(old in source for source in sources[:end]) == 1
    for cell in node.cells:
        cell.source = cell.source.replace(old, new) if old else cell.source
    settings = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    node.cells.insert(2, nbformat.v4.new_code_cell(settings))
    NotebookClient(node, kernel_name="python3", resources={"metadata": {"path": str(REPOSITORY)}}).execute()
    outputs = [output for cell in node.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") + "\n" for output in outputs)


def numbers(pattern: str, text: str) -> list[float]:
    found = re.search(pattern, text)
    assert found, text
    return [float(value) for value in found.groups()]


def test_by_hand_alone_and_by_dartlib_are_one_a_wrong_boundary_differs_and_bf16_stands_still(tmp_path: Path) -> None:
    said = run_lesson(tmp_path)
    packed, norm, alone, norm_alone = numbers(
        r"packed: loss ([\d.]+), gradient norm ([\d.]+); alone: ([\d.]+), ([\d.]+)", said
    )
    assert packed == pytest.approx(alone, abs=2e-5) and norm == pytest.approx(norm_alone, abs=2e-3)
    ours, theirs = numbers(r"loss ([\d.]+) by hand, ([\d.]+) by dartlib", said)
    assert ours == pytest.approx(theirs, abs=1e-5) and ours == pytest.approx(packed, abs=1e-5)
    first, first_seen = numbers(r"example 1: loss ([\d.]+) apart, ([\d.]+) with", said)
    second, second_seen = numbers(r"example 2: loss ([\d.]+) apart, ([\d.]+) with", said)
    assert first == first_seen and abs(second - second_seen) > 0.001
    exact, coarse = numbers(r"0\.00001 +([\d.]+)% +([\d.]+)%", said)
    assert exact > 95 and coarse < 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss = losses.mean()", "loss = losses.sum() / len(tokens)"),  # a mean over all tokens
        ("(block[:, None] == block[None, :]).tril()", "(block[:, None] < 9).expand(len(block), -1).tril()"),  # leaks
    ],
)
def test_a_lesson_with_a_fault_does_not_pass_its_own_check(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run_lesson(tmp_path, old, new)
