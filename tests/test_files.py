"""Files: whole or absent, and one rule for every path that a person types."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from dartlib import files
from dartlib.engines import ModelError, resolve_model
from dartlib.files import content_digest, find_path, replacing, sha256_of, write_text_atomically
from dartlib.pipeline import interactive
from dartlib.queries import benchmark_overlaps, load_queries
from dartlib.records import RecordError

PROBLEM = '{"query": "What is 12 * 12?", "reference_answer": "144"}\n'


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a notebooks folder, in which the kernel of a notebook would run."""
    root = tmp_path / "repository"
    (root / "notebooks").mkdir(parents=True)
    for name, place in {"REPOSITORY": root, "RUNS": root / "runs", "NEWEST": root / "runs/newest"}.items():
        monkeypatch.setattr(files, name, place)
    monkeypatch.chdir(root / "notebooks")
    return root


def test_a_path_counts_from_the_root_and_else_from_here(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "own.jsonl").write_text(PROBLEM)
    (repository / "notebooks" / "beside.jsonl").write_text(PROBLEM)
    assert find_path("own.jsonl") == repository / "own.jsonl"
    assert find_path("./own.jsonl") == repository / "own.jsonl"
    assert find_path("beside.jsonl") == repository / "notebooks" / "beside.jsonl"
    assert find_path("../own.jsonl").samefile(repository / "own.jsonl")
    assert find_path(str(repository / "own.jsonl")) == repository / "own.jsonl"
    assert capsys.readouterr().out == "", "nothing to tell where there is one file of that name"


def test_a_home_folder_is_expanded(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(repository / "notebooks"))
    (repository / "notebooks" / "mine").mkdir()
    assert find_path("~/mine") == repository / "notebooks" / "mine"


def test_two_files_of_one_name_are_told(repository: Path) -> None:
    for folder in (repository, repository / "notebooks"):
        (folder / "own.jsonl").write_text(PROBLEM)
    told: list[str] = []
    assert find_path("own.jsonl", told.append) == repository / "own.jsonl"
    other = f"if you mean {repository}/notebooks/own.jsonl, give its absolute path"
    assert told == [f"own.jsonl: {repository}/own.jsonl is taken; {other}"]
    (repository / "notebooks" / "own.jsonl").unlink()
    os.link(repository / "own.jsonl", repository / "notebooks" / "own.jsonl")
    find_path("own.jsonl", told.append)
    assert len(told) == 1, "the same file twice is not ambiguous"


def test_the_error_says_where_it_looked(repository: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_path("abent.jsonl")
    assert str(caught.value) == (
        f"abent.jsonl: looked for {repository}/abent.jsonl and {repository}/notebooks/abent.jsonl: no such file"
    )
    with pytest.raises(FileNotFoundError, match=r"^/nowhere/x: looked for /nowhere/x: no such file$"):
        find_path("/nowhere/x")


def test_the_rooms_use_this_rule(repository: Path) -> None:
    """QUERIES and BENCHMARKS (lists, too), MODEL and BASE_MODEL, from the folder in which JupyterLab starts kernels."""
    (repository / "own.jsonl").write_text(PROBLEM)
    model = repository / "models" / "mine"
    model.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    (query,) = load_queries("own.jsonl", split="train", queries_per_level=1, seed=0)
    assert query.reference_answer == "144"
    (overlap,) = benchmark_overlaps(["What is 12 * 12?"], ["own.jsonl"])
    assert overlap.whole == 1
    assert resolve_model("models/mine") == model
    both = f"{repository}/absent.* and {repository}/notebooks/absent"
    with pytest.raises(RecordError, match=both):
        load_queries("absent.jsonl", split="train", queries_per_level=1, seed=0)
    with pytest.raises(ModelError, match=both):
        resolve_model("absent-model")


def test_a_folder_to_write_to_is_found_or_made_in_the_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POOL_FOLDER may be a pool that lies beside the notebook; a new one comes into the repository."""
    monkeypatch.setattr(interactive, "REPOSITORY", repository)
    (repository / "notebooks" / "pool").mkdir()
    assert interactive.repository_path("pool") == repository / "notebooks" / "pool"
    assert interactive.repository_path("runs/interactive") == repository / "runs" / "interactive"


def complete_run(folder: Path, finished: str, *files: str) -> None:
    stage = folder / "02_synthesis"
    stage.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"stages": [{"name": "02_synthesis"}]}))
    (stage / "manifest.json").write_text(json.dumps({"finished": finished}))
    for name in files:
        (stage / name).touch()


def test_newest_is_the_run_completed_last_of_those_that_have_the_file(repository: Path) -> None:
    runs = repository / "runs"
    complete_run(runs / "smoke", "2026-01-02T00:00:00Z", "vrt.parquet")
    complete_run(runs / "reference", "2026-01-01T00:00:00Z", "vrt.parquet", "old.parquet")
    complete_run(runs / "broken", "2026-01-09T00:00:00Z", "vrt.parquet")
    (runs / "broken" / "02_synthesis" / "manifest.json").unlink()
    (runs / "junk").mkdir()
    (runs / "junk" / "run.json").write_text("{")
    told: list[str] = []
    assert find_path("runs/newest", told.append) == runs / "smoke"
    assert told == ["run: runs/smoke, the newest complete one (finished 2026-01-02T00:00:00Z)"]
    assert find_path("runs/newest/02_synthesis/vrt.parquet") == runs / "smoke/02_synthesis/vrt.parquet"
    assert find_path("runs/newest/02_synthesis/old.parquet") == runs / "reference/02_synthesis/old.parquet"
    with pytest.raises(FileNotFoundError, match="no complete run in .* has 02_synthesis/none.parquet: run `make"):
        find_path("runs/newest/02_synthesis/none.parquet")


def test_content_decides_and_names_inside_a_folder_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "x.txt").write_text("same")
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    assert content_digest(tmp_path / "a/part/x.txt") == sha256_of(tmp_path / "b/part/x.txt")
    (tmp_path / "b/part/x.txt").rename(tmp_path / "b/part/y.txt")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


def test_large_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "_QUICKLY_READ", 3)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"abcd")
    first = content_digest(weights)
    assert first == sha256_of(weights)
    monkeypatch.setattr(files, "sha256_of", lambda path: pytest.fail("read again"))
    assert content_digest(weights) == first
    monkeypatch.undo()
    monkeypatch.setenv("DARTLIB_CACHE", str(tmp_path / "cache"))
    weights.write_bytes(b"abcde")
    assert content_digest(weights) == sha256_of(weights) != first


@pytest.mark.parametrize(("number", "room"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.ECONNRESET, False)])
def test_only_a_full_disk_is_told_to_make_room(tmp_path: Path, number: int, room: bool) -> None:
    target = tmp_path / "set.parquet"
    target.write_bytes(b"old")
    with pytest.raises(OSError) as caught, replacing(target):
        raise OSError(number, "reason of the system")
    assert ("make room" in str(caught.value)) == room
    assert caught.value.errno == number and "reason of the system" in str(caught.value)
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "deep" / "x.txt", "é")
    assert (tmp_path / "deep" / "x.txt").read_bytes() == "é".encode()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["notebooks", ".", "elsewhere"])
def test_a_kernel_finds_own_files_wherever_it_starts(tmp_path: Path, start: str) -> None:
    """JupyterLab starts a notebook's kernel in ``notebooks/``, papermill in the root, a stranger anywhere."""
    elsewhere = start == "elsewhere"
    folder = tmp_path if elsewhere else files.REPOSITORY / start
    named = "own-problems.jsonl" if elsewhere else "tests/own-problems.jsonl"
    place = tmp_path / named if elsewhere else files.REPOSITORY / named
    place.write_text(PROBLEM)
    cells = [
        "from dartlib.queries import load_queries, benchmark_overlaps",
        "from dartlib.files import find_path",
        f"read = load_queries({named!r}, split='train', queries_per_level=1, seed=0)",
        f"found = benchmark_overlaps(['What is 12 * 12?'], [{named!r}])",
        f"print(read[0].reference_answer, found[0].whole, find_path({named!r}))",
    ]
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(cells))])
    try:
        NotebookClient(node, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        place.unlink()
    assert node.cells[0].outputs[-1].text.splitlines()[-1] == f"144 1 {place}"
