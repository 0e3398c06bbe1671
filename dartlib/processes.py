"""Child processes that never outlive us: no model server or training job is left behind, even after kill -9.

`start_child` runs a command under a tiny supervisor (this file, run as a script) in a session of its own, so
that an interrupt meant for a notebook kernel does not reach it. The supervisor holds the read end of a pipe
whose write end lives only in the parent. When the pipe closes, or the parent vanishes, it ends everything it
started: TERM, a short grace, KILL. It is a child subreaper, so descendants that moved to a session of their own
(as torchrun's workers do) are found too. Linux only.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

GRACE_SECONDS = 2.0  # between TERM and KILL when the parent died: all is over well within 5 s
HEADLESS_MARK = "DARTLIB_STAGE_MARK"  # `dartlib run` sets it for all that a notebook starts: nobody watches those
STAGE_VARIABLE = "DARTLIB_STAGE"  # name of the stage whose notebook runs, for what it writes outside its folder
ANSWER_SECONDS = 30.0  # for a command that is asked something
_POLL_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class ChildProcess:
    """A running command under its supervisor; made by `start_child`. As a context manager it stops on exit.

    ``pid`` is the supervisor's process id, which is also the id of the command's session and process group.
    An exit status is 128 + the signal's number where a signal ended the command.
    """

    def __init__(self, process: subprocess.Popen[bytes], pipe: int) -> None:
        self._process = process
        self._pipe: int | None = pipe
        self.pid = process.pid

    def poll(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        code = self._process.poll()
        return None if code is None else self._finished(code)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        return self._finished(self._process.wait(timeout))

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> int:
        """End the command and all it started: TERM, ``grace_seconds``, KILL. Safe to call twice; returns the status."""
        if self._pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._pipe, f"{grace_seconds}\n".encode())
        try:
            return self.wait(grace_seconds + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self.wait()

    def _finished(self, code: int) -> int:
        pipe, self._pipe = self._pipe, None  # one step: two threads may look at once
        if pipe is not None:
            os.close(pipe)
            if code < 0:  # the supervisor itself was killed: end what is left of its group
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
        return code if code >= 0 else 128 - code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_child(
    command: Sequence[str],
    *,
    log_path: Path | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ChildProcess:
    """Start ``command`` so that it ends when we do.

    Its output is appended to ``log_path`` (None: it goes where ours goes); ``env`` is the whole environment, None
    means ours. A command that cannot be started ends with status 127 and the reason in its log.
    """
    read_end, write_end = os.pipe()  # both close on exec
    # Run by file name, isolated: it works from any folder and starts in a few hundredths of a second.
    supervisor = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(read_end), *command]
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read_end)
        output = None
        if log_path is not None:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(open(log_path, "ab"))
        try:
            process = subprocess.Popen(
                supervisor,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(read_end,),
                start_new_session=True,
                env=None if env is None else dict(env),
                cwd=cwd,
            )
        except BaseException:
            os.close(write_end)
            raise
    return ChildProcess(process, write_end)


@contextlib.contextmanager
def term_raises(error: Callable[[], BaseException]) -> Iterator[None]:
    """Inside, a TERM (a batch system's, a shell's) raises ``error()`` where the main thread is; restored after.

    Only the main thread of a process can listen: entered in another one, it does nothing.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise error()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: set by something that is not Python


class _Stop(Exception):
    """Raised in the supervisor by a TERM or INT sent to it directly."""


def _supervise(pipe: int, command: Sequence[str]) -> int:
    """Run ``command``, then end whatever it left; return its exit status. This is the supervisor's whole life."""
    os.set_inheritable(pipe, False)
    parent = os.getppid()
    _process_control(_PR_SET_CHILD_SUBREAPER, 1)
    child = _fork(command)
    statuses: dict[int, int] = {}
    grace = GRACE_SECONDS
    signal.signal(signal.SIGTERM, _raise_stop)
    signal.signal(signal.SIGINT, _raise_stop)
    with contextlib.suppress(_Stop):
        while child not in statuses:
            _reap(statuses)
            request = _stop_request(pipe, parent)
            if request is not None:
                grace = request
                break
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_descendants(statuses, grace)
    return os.waitstatus_to_exitcode(statuses[child])


def _fork(command: Sequence[str]) -> int:
    supervisor = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _process_control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == supervisor:  # else it died before the line above
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvp(command[0], list(command))
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _stop_request(pipe: int, parent: int) -> float | None:
    """Wait a moment; the grace in seconds when we are to stop, else None.

    The parent's id is looked at besides the pipe, because a process the parent forked may hold the write end.
    """
    ready, _, _ = select.select([pipe], [], [], _POLL_SECONDS)
    if ready:
        text = os.read(pipe, 64).split(b"\n")[0]
        return float(text) if text else GRACE_SECONDS
    return GRACE_SECONDS if os.getppid() != parent else None


def _end_descendants(statuses: dict[int, int], grace: float) -> None:
    """TERM to every descendant, then KILL to those alive after ``grace`` seconds, until none is left."""
    _signal_all(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while _reap(statuses):
        if time.monotonic() >= deadline:
            _signal_all(signal.SIGKILL)
        time.sleep(0.02)


def _reap(statuses: dict[int, int]) -> bool:
    """Collect ended children into ``statuses`` (pid to wait status); True while others are still running."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            statuses[pid] = status
    return False


def _signal_all(number: int) -> None:
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _descendants(root: int) -> list[int]:
    """Process ids below ``root``, parents first, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as handle:
                # "pid (name) state ppid …": the name may hold anything, so cut after its last bracket
                children.setdefault(int(handle.read().rpartition(b")")[2].split()[1]), []).append(int(entry))
    found = list(children.get(root, []))
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, []))
    return found


def _process_control(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


if __name__ == "__main__":
    code = _supervise(int(sys.argv[1]), sys.argv[2:])
    sys.exit(code if code >= 0 else 128 - code)


def a_person_is_watching() -> bool:
    """True in a Jupyter kernel that neither `dartlib run` nor another headless runner started.

    nbclient, and so papermill and nbconvert, starts kernels with their history in memory.
    """
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ != "ZMQInteractiveShell" or HEADLESS_MARK in os.environ:
        return False
    return str(shell.history_manager.hist_file) != ":memory:"


def git_state(folder: Path) -> tuple[str, bool]:
    """Commit and whether there are uncommitted changes; ("unknown", False) without git or outside a clone."""
    commit = output_of(["git", "-C", str(folder), "rev-parse", "HEAD"])
    changes = output_of(["git", "-C", str(folder), "status", "--porcelain"])
    return (commit or "unknown", bool(changes))


def output_of(command: list[str]) -> str | None:
    """What a command prints, stripped; None when it is not there, fails or hangs for ``ANSWER_SECONDS``."""
    if shutil.which(command[0]) is None:
        return None
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        out, _ = process.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for: what hangs in a driver cannot even be killed
        return None
    except OSError:
        return None
    return out.strip() if process.returncode == 0 else None
