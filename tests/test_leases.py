"""One coordinator per folder, and a holder that died is no obstacle."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dartlib import leases
from dartlib.leases import Lease, LeaseHeld

HOLD = "import sys, time; from pathlib import Path; from dartlib.leases import Lease\n"
HOLD += "lease = Lease(Path(sys.argv[1]), 'the first'); print('held', flush=True); time.sleep(60)"


def test_a_second_holder_is_refused_by_name_and_the_folder_comes_back(tmp_path: Path) -> None:
    with Lease(tmp_path, "sampling"), pytest.raises(LeaseHeld, match=r"process \d+ on .* since .* \(sampling\)"):
        Lease(tmp_path, "other")
    Lease(tmp_path, "other").release()


def test_killing_the_holder_frees_the_folder(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeld, match="the first"):
        Lease(tmp_path, "second")
    child.kill()
    child.wait()
    Lease(tmp_path, "second").release()


def test_a_holder_elsewhere_lives_while_its_heart_beats_whatever_the_clocks_say(tmp_path: Path, monkeypatch) -> None:
    """Where a lock does not reach other machines, the heartbeat has to; an hour's difference of clocks says nothing."""
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1, "purpose": "sampling", "since": "now"}))
    monkeypatch.setattr(leases, "STALE_SECONDS", 2.0)
    long_ago = time.time() - 3600

    def beat() -> None:
        for second in range(100):
            os.utime(lease, (long_ago + second, long_ago + second))
            if over.wait(0.1):
                return

    over = threading.Event()
    heart = threading.Thread(target=beat)
    heart.start()
    with pytest.raises(LeaseHeld, match="elsewhere"):
        Lease(tmp_path, "second")
    over.set()
    heart.join()
    os.utime(lease, (time.time() + 3600,) * 2)  # it died, on a machine whose clock is ahead
    Lease(tmp_path, "second").release()


def test_a_file_system_without_locks_is_named_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="No locks available: this file system cannot lock files") as caught:
        Lease(tmp_path, "sampling")
    assert caught.value.errno == errno.ENOLCK and caught.value.filename == str(tmp_path)


def test_a_failed_heartbeat_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beat, calls = Lease._beat, 0

    def full(lease: Lease) -> None:
        nonlocal calls
        calls += 1
        if 1 < calls < 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        beat(lease)

    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(Lease, "_beat", full)
    with Lease(tmp_path, "sampling"):
        deadline = time.monotonic() + 10
        while calls < 7 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert calls >= 7, "it went on"
    (line,) = capsys.readouterr().err.splitlines()
    assert "lease.json: no heartbeat (" in line and "No space left on device" in line
