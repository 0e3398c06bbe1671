"""Running one notebook headlessly through papermill, with an honest ending for each way it can fail."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dartlib.files import REPOSITORY, short_temporary_folder
from dartlib.pipeline.notebooks import NotebookError, check_parameters, read_notebook, read_parameters, source_of
from dartlib.processes import HEADLESS_MARK

EXIT_BAD_INPUT = 2
EXIT_CELL_ERROR = 10
EXIT_DEAD_KERNEL = 11
EXIT_TIMEOUT = 12
EXIT_UNFINISHED = 13
_OUTPUT_SECONDS = 120  # for the last of what a cell printed, on a machine that is busy (nbclient gives up after 4)
_KEPT_PREFIX = "DARTLIB_KEPT_"


@dataclass(eq=False)
class ExecutionFailure(Exception):
    """A notebook that did not run to its end. ``cell`` is its number in the source notebook, from 1, if it is known."""

    kind: str
    exit_code: int
    cell: int | None
    source: str
    error: str

    def __str__(self) -> str:
        place = f" in cell {self.cell}" if self.cell else ""
        code = "".join(f"\n    | {line}" for line in self.source.splitlines())
        return f"{self.kind}{place}{code}\n{self.error}"


def execute(
    notebook: Path, output: Path, parameters: Mapping[str, Any], *, log: IO[str], cell_timeout_minutes: float
) -> None:
    """Run ``notebook`` with ``parameters``; the executed copy ``output`` is kept whatever happens.

    What cells print goes to ``log`` line by line while they run. The kernel is this interpreter's, its folder the
    repository's root. Raises NotebookError before a kernel starts, ExecutionFailure afterwards.
    """
    check_parameters(read_parameters(notebook), parameters, notebook.name)
    _require_own_kernel()
    import papermill  # after the checks: it takes seconds to import
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from traitlets.config import Config

    with _ending_everything_started(), tempfile.TemporaryDirectory(dir=short_temporary_folder()) as sockets:
        # Sockets instead of ports: two stages that start at once may be given the same port, and one kernel dies.
        connection = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters=dict(parameters),
                kernel_name="python3",
                cwd=REPOSITORY,
                progress_bar=False,
                stdout_file=log,
                stderr_file=log,
                execution_timeout=int(cell_timeout_minutes * 60) or None,
                autosave_cell_every=0,
                iopub_timeout=_OUTPUT_SECONDS,
                config=Config(KernelManager=connection),
            )
        except papermill.PapermillExecutionError as error:
            raise _failure(output, "cell error", EXIT_CELL_ERROR, f"{error.ename}: {error.evalue}") from None
        except RuntimeError as error:
            died = isinstance(error, DeadKernelError)
            reason = "the kernel died (killed, or out of memory)" if died else f"the kernel did not start: {error}"
            raise _failure(output, "dead kernel", EXIT_DEAD_KERNEL, reason) from None
        except CellTimeoutError:
            reason = f"it ran longer than cell_timeout_minutes = {cell_timeout_minutes:g}"
            raise _failure(output, "timeout", EXIT_TIMEOUT, reason) from None
        finally:
            if output.is_file():
                _scrub_notebook(output)
    _require_all_executed(output)


def _require_own_kernel() -> None:
    """The kernel ``python3`` must be this environment's, not one somebody installed for the user."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        raise NotebookError("no python3 kernel in this environment: install ipykernel (`make env` does)") from None
    if command not in ("python", "python3", sys.executable):  # jupyter_client runs the first two as sys.executable
        raise NotebookError(f"the kernel python3 is that of another environment ({command}): remove that kernelspec")


def _require_all_executed(output: Path) -> None:
    """A cell may end the notebook quietly (``sys.exit(0)``): then later cells have no execution count."""
    for number, cell in _own_cells(output):
        quiet_exit = any(item.get("ename") == "SystemExit" for item in cell.get("outputs", []))
        if cell["cell_type"] == "code" and source_of(cell).strip() and (quiet_exit or cell["execution_count"] is None):
            reason = "this cell was not executed to its end, though no error was raised (sys.exit?)"
            raise ExecutionFailure("unfinished notebook", EXIT_UNFINISHED, number, source_of(cell), reason)


def _failure(output: Path, kind: str, exit_code: int, reason: str) -> ExecutionFailure:
    """The failure with the last cell that was started, as the executed copy tells."""
    started = [
        (number, source_of(cell))
        for number, cell in _own_cells(output)
        if cell["cell_type"] == "code" and cell["metadata"].get("papermill", {}).get("start_time")
    ]
    number, source = started[-1] if started else (None, "")
    return ExecutionFailure(kind, exit_code, number, source, reason)


def _own_cells(output: Path) -> list[tuple[int, dict[str, Any]]]:
    """The source notebook's cells in an executed copy, numbered from 1; papermill adds cells of its own."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = read_notebook(output)["cells"] if output.is_file() else []
    return list(enumerate((cell for cell in cells if not added & set(cell["metadata"].get("tags", []))), start=1))


def scrub(text: str) -> str:
    """``text`` without the paths of this machine that we know: the repository's and the user's home.

    Whole names only, and nothing where one of them is the root folder: a home of ``/`` says nothing about a machine.
    """
    known = ((REPOSITORY, "/", ""), (REPOSITORY, r"(?![\w-]|\.\w)", "."), (Path.home(), r"(?![\w-]|\.\w)", "~"))
    for place, end, short in known:
        if place != Path(place.anchor):
            text = re.sub(rf"(?<![\w.~-]){re.escape(str(place))}{end}", short, text)
    return text


def _scrub_notebook(path: Path) -> None:
    notebook = json.loads(scrub(path.read_text(encoding="utf-8")))
    for key in ("input_path", "output_path"):
        recorded = notebook["metadata"].get("papermill", {})
        if recorded.get(key):
            recorded[key] = Path(recorded[key]).name
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _ending_everything_started() -> Iterator[None]:
    """End whatever the notebook's kernel started and left behind: servers in their own session, a hung kernel."""
    mark = uuid.uuid4().hex
    os.environ[HEADLESS_MARK] = mark
    try:
        yield
    finally:
        del os.environ[HEADLESS_MARK]
        end_marked_processes(HEADLESS_MARK, mark)


def end_marked_processes(variable: str, value: str, grace_seconds: float = 3.0) -> int:
    """TERM, then KILL, every process whose environment was started with ``variable=value``; returns their number."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process)
    _, left = psutil.wait_procs(found, timeout=0.5)  # a kernel that was asked to stop is often on its way
    for stop in ("terminate", "kill"):
        for process in left:
            with contextlib.suppress(psutil.Error):
                getattr(process, stop)()
        _, left = psutil.wait_procs(left, timeout=grace_seconds)
    return len(found)


def keep_thread_limits() -> dict[str, str]:
    """The user's own thread limits under other names: Snakemake sets them to 1 (a job's threads) for what it starts."""
    return {_KEPT_PREFIX + name: value for name, value in os.environ.items() if _is_thread_limit(name)}


def restore_thread_limits() -> None:
    """In a stage: what `keep_thread_limits` kept, else no limit, so that models use what the machine has."""
    for name in [name for name in os.environ if _is_thread_limit(name)]:
        del os.environ[name]
    for name in [name for name in os.environ if name.startswith(_KEPT_PREFIX)]:
        os.environ[name.removeprefix(_KEPT_PREFIX)] = os.environ.pop(name)


def _is_thread_limit(name: str) -> bool:
    return name.endswith(("_NUM_THREADS", "_MAXIMUM_THREADS")) and not name.startswith(_KEPT_PREFIX)


def utc_time(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
