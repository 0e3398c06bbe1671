"""Headless execution: each way a notebook can end, told apart; nothing it started stays behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_repository import write_notebook

from dartlib.files import REPOSITORY
from dartlib.pipeline.execution import (
    EXIT_CELL_ERROR,
    EXIT_DEAD_KERNEL,
    EXIT_TIMEOUT,
    EXIT_UNFINISHED,
    ExecutionFailure,
    end_marked_processes,
    execute,
    scrub,
)
from dartlib.pipeline.notebooks import NotebookError

PARAMETERS = ["COUNT: int = 1  # a number", "NAMES: list[str] = []  # texts", "LIMIT: float | None = 1.0  # or nothing"]


def run(folder: Path, *cells: str, minutes: float = 1.0, **parameters: Any) -> tuple[Path, str]:
    """Execute a toy notebook; returns the executed copy and what its cells printed."""
    source = write_notebook(folder / "toy.ipynb", PARAMETERS, *cells)
    log = io.StringIO()
    execute(source, folder / "done.ipynb", parameters, log=log, cell_timeout_minutes=minutes)
    return folder / "done.ipynb", log.getvalue()


def failure_of(folder: Path, *cells: str, minutes: float = 1.0) -> ExecutionFailure:
    with pytest.raises(ExecutionFailure) as caught:
        run(folder, *cells, minutes=minutes)
    assert (folder / "done.ipynb").is_file(), "the executed copy is kept"
    return caught.value


@pytest.mark.slow
def test_parameters_arrive_unchanged_and_output_is_logged(tmp_path: Path) -> None:
    given = {"COUNT": 3, "NAMES": ["a'b", 'c"d', "é"], "LIMIT": None}
    check = (
        f"import json, os\nassert [COUNT, NAMES, LIMIT] == json.loads({json.dumps(json.dumps(list(given.values())))})"
    )
    place = "import sys; print(os.getcwd()); print(sys.executable); print('to stderr', file=sys.stderr)"
    done, log = run(tmp_path, check, place, **given)
    assert log.splitlines() == [str(REPOSITORY), sys.executable, "to stderr"]
    text = done.read_text()
    assert str(REPOSITORY) + "/" not in text and str(tmp_path) not in text, "paths of this machine are cut out"
    assert json.loads(text)["metadata"]["papermill"]["input_path"] == "toy.ipynb"


def test_bad_parameters_start_no_kernel(tmp_path: Path) -> None:
    for parameters in ({"COUTN": 2}, {"COUNT": "2"}, {"COUNT": Path("x")}):
        with pytest.raises(NotebookError):
            run(tmp_path, "x = 1", **parameters)
    write_notebook(tmp_path / "untagged.ipynb", None, "x = 1")
    with pytest.raises(NotebookError, match="0 cells are tagged"):
        execute(tmp_path / "untagged.ipynb", tmp_path / "done.ipynb", {}, log=io.StringIO(), cell_timeout_minutes=1)
    assert not (tmp_path / "done.ipynb").exists()


@pytest.mark.slow
def test_failing_cell_is_named(tmp_path: Path) -> None:
    failure = failure_of(tmp_path, "x = 1", "y = 2\nraise ValueError('boom')", "z = 3")
    assert (failure.kind, failure.exit_code, failure.cell) == ("cell error", EXIT_CELL_ERROR, 6)
    assert failure.error == "ValueError: boom"
    assert "in cell 6\n    | y = 2\n    | raise ValueError('boom')\nValueError: boom" in str(failure)


@pytest.mark.slow
@pytest.mark.parametrize("cells", [["import sys; sys.exit(0)"], ["import sys; sys.exit(0)", "x = 1"]])
def test_quiet_exit_is_a_failure(tmp_path: Path, cells: list[str]) -> None:
    failure = failure_of(tmp_path, *cells)
    assert (failure.kind, failure.exit_code, failure.cell) == ("unfinished notebook", EXIT_UNFINISHED, 4)


@pytest.mark.slow
def test_killed_kernel_leaves_nothing_behind(tmp_path: Path) -> None:
    """The cell starts a process in a session of its own, as a server would be, then the kernel is killed."""
    pid_file = tmp_path / "pid"
    start = "import os, subprocess\nchild = subprocess.Popen(['sleep', '300'], start_new_session=True)"
    tell = f"open({str(pid_file)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')"
    started = time.monotonic()
    failure = failure_of(tmp_path, f"{start}\n{tell}\nos.kill(os.getpid(), 9)", "x = 1")
    assert (failure.kind, failure.exit_code, failure.cell) == ("dead kernel", EXIT_DEAD_KERNEL, 4)
    assert not any(psutil.pid_exists(int(pid)) for pid in pid_file.read_text().split())
    assert time.monotonic() - started < 30


@pytest.mark.slow
def test_a_kernel_that_does_not_start_is_a_failure_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ipykernel_launcher.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    failure = failure_of(tmp_path, "x = 1")
    assert (failure.kind, failure.exit_code, failure.cell) == ("dead kernel", EXIT_DEAD_KERNEL, None)
    assert failure.error.startswith("the kernel did not start: Kernel died before replying")


@pytest.mark.slow
def test_kernels_speak_through_sockets_so_that_two_never_share_a_port(tmp_path: Path) -> None:
    run(tmp_path, "from ipykernel.kernelapp import IPKernelApp\nassert IPKernelApp.instance().transport == 'ipc'")


@pytest.mark.slow
def test_timeout_names_the_cell_and_earlier_output_is_kept(tmp_path: Path) -> None:
    failure = failure_of(tmp_path, "print('before')", "import time; time.sleep(60)", minutes=0.05)
    assert (failure.kind, failure.exit_code, failure.cell) == ("timeout", EXIT_TIMEOUT, 6)
    assert "before" in (tmp_path / "done.ipynb").read_text()


def test_marked_processes_are_ended_even_if_they_ignore_term() -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "DARTLIB_TEST_MARK": "42"}
    marked = subprocess.Popen([sys.executable, "-c", stubborn], env=environment, stdout=subprocess.PIPE)
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, "DARTLIB_TEST_MARK": "43"})
    try:
        assert marked.stdout and marked.stdout.readline() == b"up\n"
        assert end_marked_processes("DARTLIB_TEST_MARK", "42", grace_seconds=0.3) == 1
        assert not psutil.pid_exists(marked.pid)
        assert other.poll() is None
    finally:
        other.kill()
        marked.kill()
        other.wait()
        marked.wait()


@pytest.mark.parametrize(
    ("home", "text", "expected"),
    [
        ("/srv/ann", "see /srv/ann/data and /srv/ann.", "see ~/data and ~."),
        ("/srv/ann", "file:///srv/ann/x and '/srv/ann'", "file://~/x and '~'"),
        (
            "/srv/ann",
            "/srv/anna /mnt/srv/ann /srv/ann-2 /srv/ann.old",
            "/srv/anna /mnt/srv/ann /srv/ann-2 /srv/ann.old",
        ),
        ("/", "1/2 of /tmp/x", "1/2 of /tmp/x"),
        ("/srv/ann", f"{REPOSITORY}/a/b {REPOSITORY} {REPOSITORY}x", f"a/b . {REPOSITORY}x"),
    ],
)
def test_only_whole_paths_of_this_machine_are_cut_out(
    monkeypatch: pytest.MonkeyPatch, home: str, text: str, expected: str
) -> None:
    """A service account's home is often the root folder, which stands in every text."""
    monkeypatch.setenv("HOME", home)
    assert scrub(text) == expected
