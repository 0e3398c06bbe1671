"""One coordinator per folder, and a holder that died is no obstacle."""

from __future__ import annotations

import json
import subprocess
import sys
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


def test_a_fresh_heartbeat_of_another_machine_refuses_and_an_old_one_does_not(tmp_path: Path, monkeypatch) -> None:
    """Where a lock does not reach other machines, the heartbeat has to."""
    holder = {"host": "elsewhere", "pid": 1, "purpose": "sampling", "since": "now"}
    (tmp_path / "lease.json").write_text(json.dumps(holder))
    with pytest.raises(LeaseHeld, match="elsewhere"):
        Lease(tmp_path, "second")
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.0)
    time.sleep(0.01)
    Lease(tmp_path, "second").release()
