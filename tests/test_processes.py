"""Children end with their parent, whatever ended the parent, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dartlib import processes
from dartlib.processes import git_state, output_of, start_child

# A command with a child and a grandchild in another session, all deaf to TERM; it writes their process ids.
STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
if int(sys.argv[1]):
    younger = [sys.executable, "-c", sys.argv[2], str(int(sys.argv[1]) - 1), sys.argv[2]]
    subprocess.Popen(younger, start_new_session=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """True when the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != b"Z"


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def written_pids(log: Path, count: int) -> list[int]:
    assert wait_until(lambda: log.exists() and len(log.read_text().split()) == count, 15), "the family never started"
    return [int(pid) for pid in log.read_text().split()]


@pytest.mark.parametrize("code", [0, 3])
def test_the_return_code_and_the_log_are_passed_on(tmp_path: Path, code: int) -> None:
    command = [sys.executable, "-c", f"import os; print(os.environ['WORD'], os.getcwd()); raise SystemExit({code})"]
    log = tmp_path / "deep" / "log.txt"
    child = start_child(command, log_path=log, env={"WORD": "hello"}, cwd=tmp_path)
    assert child.wait(20) == code
    assert child.poll() == code
    assert log.read_text() == f"hello {tmp_path}\n"


def test_a_signalled_command_reports_128_plus_the_signal(tmp_path: Path) -> None:
    child = start_child(["sh", "-c", "kill -9 $$"], log_path=tmp_path / "log")
    assert child.wait(20) == 128 + 9


def test_a_command_that_cannot_start_says_why(tmp_path: Path) -> None:
    child = start_child(["/nowhere/program"], log_path=tmp_path / "log")
    assert child.wait(20) == 127
    assert "cannot start /nowhere/program: No such file" in (tmp_path / "log").read_text()


def test_stop_kills_what_ignores_term_and_leaves_no_zombie(tmp_path: Path) -> None:
    with start_child([sys.executable, "-c", STUBBORN_FAMILY, "2", STUBBORN_FAMILY], log_path=tmp_path / "log") as child:
        pids = written_pids(tmp_path / "log", 3)
        started = time.monotonic()
        child.stop(grace_seconds=0.3)
        assert time.monotonic() - started < 3
        assert not any(alive(pid) for pid in [*pids, child.pid])
    with pytest.raises(ChildProcessError):  # reaped: there is nothing left to wait for
        os.waitpid(child.pid, os.WNOHANG)


def test_a_command_that_heeds_term_has_time_to_clean_up(tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    child = start_child(["sh", "-c", script], log_path=tmp_path / "log")
    assert wait_until(lambda: "ready" in (tmp_path / "log").read_text(), 10)
    assert child.stop(grace_seconds=10) == 5
    assert "cleaned" in (tmp_path / "log").read_text()


def test_leftovers_end_when_the_command_itself_ended(tmp_path: Path) -> None:
    child = start_child(["sh", "-c", "sleep 600 & echo $!"], log_path=tmp_path / "log")
    assert child.wait(10) == 0
    assert not alive(int((tmp_path / "log").read_text()))


@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a forked worker holding the pipe"])
def test_kill_9_of_the_parent_leaves_nothing_after_five_seconds(tmp_path: Path, forks: bool) -> None:
    parent_code = (
        "import os, sys, time; from pathlib import Path; from dartlib.processes import start_child\n"
        "start_child([sys.executable, '-c', sys.argv[1], '2', sys.argv[1]], log_path=Path(sys.argv[2]))\n"
        f"if {forks} and (worker := os.fork()) == 0: time.sleep(30)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code, STUBBORN_FAMILY, str(tmp_path / "log")])
    pids = written_pids(tmp_path / "log", 3)
    supervisor = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    workers = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    parent.kill()
    parent.wait()
    try:
        assert wait_until(lambda: not any(alive(pid) for pid in [*pids, supervisor]), 5)
    finally:
        for pid in set(workers) - {supervisor}:
            os.kill(pid, signal.SIGKILL)


def test_kill_9_of_the_supervisor_does_not_free_the_command(tmp_path: Path) -> None:
    child = start_child([sys.executable, "-c", STUBBORN_FAMILY, "0", ""], log_path=tmp_path / "log")
    (pid,) = written_pids(tmp_path / "log", 1)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(5) == 128 + 9
    assert wait_until(lambda: not alive(pid), 2)


def test_a_command_that_hangs_or_cannot_run_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nvidia-smi with a stuck driver, or git on a dead network disk: its child holds the pipe and ignores TERM."""
    for name, text in {
        "nvidia-smi": "#!/bin/sh\ntrap '' TERM\nsleep 60 &\nsleep 60\n",
        "git": "#!/bin/sh\nsleep 60\n",
        "broken": "\x7fELF not a program",
        "failing": "#!/bin/sh\necho half\nexit 3\n",
        "good": "#!/bin/sh\necho ' answer '\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(processes, "ANSWER_SECONDS", 0.3)
    started = time.monotonic()
    assert [output_of([name]) for name in ("nvidia-smi", "absent", "broken", "failing", "good")] == [None] * 4 + [
        "answer"
    ]
    assert git_state(tmp_path) == ("unknown", False)
    assert time.monotonic() - started < 5
