"""What a notebook needs of the pipeline: where its files are, what it runs on, and that its parameters are its own."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from dartlib.files import REPOSITORY, find_path
from dartlib.pipeline.manifests import hardware, package_versions
from dartlib.pipeline.notebooks import check_parameters, parse_parameters
from dartlib.processes import git_state


def repository_path(text: str) -> Path:
    """A folder that a notebook writes to: found like any other path, and made in the repository where there is none."""
    with suppress(FileNotFoundError):
        return find_path(text)
    return REPOSITORY / Path(text).expanduser()


def describe_machine() -> None:
    """Print code, versions and hardware, for the first cell of every notebook, once its parameters are checked."""
    _check_injected()
    commit, dirty = git_state(REPOSITORY)
    state = "with uncommitted changes" if dirty else "clean"
    machine = hardware()
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    print(f"code:     commit {commit[:10]} ({state})")
    print(f"machine:  {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {gpus}")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in package_versions().items()))


def _check_injected() -> None:
    """Papermill by itself lets a misspelt parameter through, and text where a list is due: NotebookError for both.

    The kernel's history tells: papermill's cell comes right after the parameters cell.
    """
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    cells: list[str] = shell.user_ns.get("In", []) if shell else []
    for declared, injected in zip(cells, cells[1:], strict=False):
        if injected.startswith("# Parameters\n"):
            given = {name: shell.user_ns[name] for name in re.findall(r"^(\w+) = ", injected, re.MULTILINE)}
            check_parameters(parse_parameters(declared, "this notebook"), given, "this notebook")
