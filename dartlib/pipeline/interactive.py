"""What a notebook needs of the pipeline: where its files are, and what it runs on."""

from __future__ import annotations

from pathlib import Path

from dartlib.pipeline.manifests import hardware, package_versions
from dartlib.pipeline.profiles import REPOSITORY
from dartlib.processes import git_state


def repository_path(text: str) -> Path:
    """A path given in a parameters cell: relative ones count from the repository's root, whatever the kernel's folder.

    So a notebook finds the same files from JupyterLab, from papermill and from a test.
    """
    return REPOSITORY / Path(text).expanduser()


def describe_machine() -> None:
    """Print code, versions and hardware, for the first cell of every notebook."""
    commit, dirty = git_state(REPOSITORY)
    state = "with uncommitted changes" if dirty else "clean"
    machine = hardware()
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    print(f"code:     commit {commit[:10]} ({state})")
    print(f"machine:  {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {gpus}")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in package_versions().items()))
