"""One coordinator per folder: a lock the system frees when its holder dies, plus a heartbeat for other machines.

The lock file is held with ``flock``; on file systems where that does not reach other machines, a heartbeat from
another host that goes on within a minute also refuses. What this module does not do: it never breaks a lease.
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Self

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


class LeaseHeld(RuntimeError):
    """Somebody else works on this folder; the message names host, process and since when."""


class Lease:
    """Hold ``folder`` for this process until ``release()`` or the end of a ``with`` block.

    Raises LeaseHeld when another live process holds it.
    """

    def __init__(self, folder: Path, purpose: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "lease.json"
        self._handle = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - held open as long as the lease
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._refuse_live_holder_elsewhere()
        except (BlockingIOError, LeaseHeld) as error:
            holder = self._read_holder()
            self._handle.close()
            raise LeaseHeld(
                f"{folder} is in use by process {holder.get('pid', '?')} on {holder.get('host', '?')} since "
                f"{holder.get('since', '?')} ({holder.get('purpose', '?')}): wait for it or stop it, then run again"
            ) from error
        except OSError as error:
            self._handle.close()
            why = f"{error.strerror}: this file system cannot lock files, which keeps two runs apart: use another one"
            raise OSError(error.errno, why, str(folder)) from error
        self._holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "purpose": purpose,
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        }
        self._beat()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease-heartbeat", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the folder back. Safe to call twice."""
        if self._handle.closed:
            return
        self._stop.set()
        self._thread.join()
        self._handle.seek(0)
        self._handle.truncate()
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _read_holder(self) -> dict[str, object]:
        self._handle.seek(0)
        try:
            holder = json.loads(self._handle.read() or "{}")
        except json.JSONDecodeError:  # read between truncate and write of the holder's heartbeat
            holder = {}
        return holder if isinstance(holder, dict) else {}

    def _refuse_live_holder_elsewhere(self) -> None:
        """A holder on another machine lives if its heart beats while we look: clocks of machines differ."""
        holder, beat = self._read_holder(), self._path.stat().st_mtime_ns
        deadline = time.monotonic() + STALE_SECONDS
        if not holder or holder.get("host") == socket.gethostname():
            return
        print(f"{self._path.parent}: was held on {holder.get('host')}; looking if that one lives", file=sys.stderr)
        while time.monotonic() < deadline:
            time.sleep(min(1.0, STALE_SECONDS / 10))
            with open(self._path, "rb") as again:  # opened anew: file systems of networks cache what is open
                if os.fstat(again.fileno()).st_mtime_ns != beat and again.read(1):
                    raise LeaseHeld

    def _beat(self) -> None:
        self._handle.seek(0)
        self._handle.truncate()
        self._handle.write(json.dumps(self._holder))
        self._handle.flush()

    def _keep_beating(self) -> None:
        told = False
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self._beat()
            except OSError as error:  # the disk may be full for a while: go on trying
                if not told:
                    print(f"{self._path}: no heartbeat ({error}), so another machine may start here", file=sys.stderr)
                told = True
