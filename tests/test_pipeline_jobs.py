"""What a stage's process holds: the stage on whatever machine, GPUs of this one; and what Snakemake is told."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_repository import PROFILE, TinyRepository, last_cell

from dartlib.leases import Lease, LeaseHeld
from dartlib.pipeline import cli, jobs
from dartlib.pipeline.profiles import ProfileError, check_profile
from dartlib.pipeline.run import is_elsewhere, shared_gpus, workflow_command, workflow_environment
from dartlib.pipeline.stages import Stage

CUDA = (
    "import os, pathlib\npathlib.Path(STAGE_FOLDER, 'cuda.txt').write_text(os.environ.get('CUDA_VISIBLE_DEVICES', ''))"
)
MEET = """import time
pathlib.Path(RUN_FOLDER, pathlib.Path(STAGE_FOLDER).name).touch()
deadline = time.monotonic() + 90
while not all(pathlib.Path(RUN_FOLDER, name).exists() for name in ('vrt-seed1', 'uniform-seed1')):
    assert time.monotonic() < deadline, 'the other one does not run beside this one'
    time.sleep(0.1)"""
BLOCK = "import time\nopen(STAGE_FOLDER + '/begun', 'w').close()\ntime.sleep(300)"


def profile(**changes: Any):
    return check_profile({**PROFILE, **changes}, "toy.yaml")


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRepository:
    return TinyRepository(tmp_path)


def test_this_machine_shares_its_cores_and_gpus_and_a_batch_system_does_that_itself(tmp_path: Path) -> None:
    here = " ".join(workflow_command(tmp_path, profile(gpus=4)))
    assert "--resources engine=1 gpu=4" in here and f"--cores {max(2, os.cpu_count() or 1)}" in here
    assert "--jobs" not in here and here.index("--rerun-incomplete")
    there = workflow_command(tmp_path, profile(), ["--executor", "slurm", "--jobs", "3"])
    assert "--resources" not in there and there[-6:] == [*"--latency-wait 60 --executor slurm --jobs 3".split()]
    for passed in (["--workflow-profile", "x"], ["--profile=x"]):
        command = workflow_command(tmp_path, profile(), passed)
        assert not {"--resources", "--jobs", "--cores"} & set(command), "the profile says this"
    assert [is_elsewhere(words) for words in (["--executor", "local"], ["--executor=local"], ["--keep-going"])] == [
        False
    ] * 3


@pytest.mark.parametrize("word", ["--keep-goin", "--kep-going", "-Q"])
def test_only_whole_options_of_snakemake_are_passed(tmp_path: Path, word: str) -> None:
    with pytest.raises(ProfileError, match=f"{word}: an option neither of dartlib nor of Snakemake"):
        workflow_command(tmp_path, profile(), [word])
    assert workflow_command(tmp_path, profile(), ["--keep-going", "-j4", "--config=a=1"])[-3:] == [
        "--keep-going",
        "-j4",
        "--config=a=1",
    ]


def test_a_stage_that_asks_for_more_gpus_than_there_are_is_refused_here_only(tmp_path: Path) -> None:
    wants = profile(gpus=2, resources={"03_training": {"gpus": 8}})
    with pytest.raises(ProfileError, match="toy: a stage takes 8 of 2 GPUs: raise gpus, or --executor"):
        workflow_command(tmp_path, wants)
    assert workflow_command(tmp_path, wants, ["--executor", "slurm"])


def test_the_gpus_that_the_user_left_visible_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert jobs.GPUS_VARIABLE not in workflow_environment([])
    assert shared_gpus(profile(gpus=3)) == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert workflow_environment(shared_gpus(profile(gpus=2)))[jobs.GPUS_VARIABLE] == "4,6"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert shared_gpus(profile(gpus=2)) == []


@pytest.mark.parametrize("option", ["--resources=mem_mb=1", "--dry-run"])
def test_what_would_undo_the_sharing_or_say_a_run_is_complete_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ProfileError, match="set the profile's resources|`dartlib plan`"):
        workflow_command(tmp_path, profile(), [option])


def test_no_gpu_is_taken_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of this machine meet whatever their temporary folders; another machine has a GPU 7 of its own."""
    monkeypatch.setenv("DARTLIB_CACHE", str(tmp_path / "shared"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr(jobs.socket, "gethostname", lambda: "node1")
    monkeypatch.setenv(jobs.GPUS_VARIABLE, "4,6,7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")

    def stage(gpus: int) -> Stage:
        return Stage("a", "a", (), {}, True, resources={"gpus": gpus})

    (tmp_path / "shared").mkdir()
    with ExitStack() as others:
        for host, gpu in (("node1", 6), ("node2", 7)):
            name = f"gpu-{host}-{os.getuid()}-{gpu}.lock"
            fcntl.flock(others.enter_context(open(tmp_path / "shared" / name, "w")), fcntl.LOCK_EX)
        with jobs.own_gpus(stage(0)):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "all", "it asked for none"
        with jobs.own_gpus(stage(2)):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
            with pytest.raises(LeaseHeld, match="a takes 1 GPUs, 0 are free"), jobs.own_gpus(stage(1)):
                pass
    with jobs.own_gpus(stage(3)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6,7", "all are free again"


@pytest.mark.slow
def test_stages_with_gpus_of_their_own_run_side_by_side(tiny: TinyRepository) -> None:
    """Each waits for the other one to have begun; without the resources they take turns, and the first fails."""
    tiny.write("03_training", CUDA, MEET, last_cell("03_training"))
    tiny.profile(gpus=2, resources={"03_training": {"gpus": 1}})
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    taken = [
        (tiny.run_folder / "03_training" / name / "cuda.txt").read_text() for name in ("vrt-seed1", "uniform-seed1")
    ]
    assert sorted(taken) == ["0", "1"]


def start_stage(tiny: TinyRepository, mark: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dartlib.pipeline.cli", "stage", str(tiny.run_folder), "00_start_here"]
    environment = {**os.environ, "PYTHONPATH": str(tiny.root), "DARTLIB_COORDINATOR": mark}
    return subprocess.Popen(command, cwd=tiny.root, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_job_of_a_dead_coordinator_ends_itself_and_one_from_the_queue_does_not_start(tiny: TinyRepository) -> None:
    """As on another machine, where nobody can end processes by their ids."""
    assert tiny.dartlib("run", "toy", "--until", "00_start_here").returncode == 0
    record = tiny.run_folder / "coordinator.json"
    record.write_text(json.dumps({"mark": "first"}))
    tiny.write("00_start_here", BLOCK, last_cell("00_start_here"))
    begun = tiny.run_folder / "00_start_here" / "begun"
    running = start_stage(tiny, "first")
    deadline = time.monotonic() + 120
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kernels = psutil.Process(running.pid).children(recursive=True)
    record.write_text(json.dumps({"mark": "second"}))
    _, said = running.communicate(timeout=60)
    assert running.returncode == 143 and "another `dartlib run` has taken over: this job ends" in said
    assert kernels and psutil.wait_procs(kernels, timeout=10)[1] == []
    queued = start_stage(tiny, "first")
    _, said = queued.communicate(timeout=60)
    assert queued.returncode == 3 and "this job of an earlier one has nothing to do" in said


def test_a_stage_waits_for_the_job_that_still_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DARTLIB_COORDINATOR", raising=False)
    monkeypatch.setattr(jobs, "_PATIENCE_SECONDS", 1.5)
    before = Lease(tmp_path / ".leases" / "a", "earlier")
    with pytest.raises(LeaseHeld, match="earlier"), jobs.holding(tmp_path, "a"):
        pass
    monkeypatch.setattr(jobs.time, "sleep", lambda _: before.release())
    with jobs.holding(tmp_path, "a"):
        pass


@pytest.mark.parametrize("words", [["--executor", "slurm", "-j", "3"], ["--", "--executor", "slurm", "-j", "3"]])
def test_what_is_not_dartlibs_goes_to_snakemake_as_it_stands(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("dartlib.pipeline.run.run_profile", lambda profile, **options: given.update(options) or 0)
    assert cli.main(["run", "smoke", "--run", "x", "--set", "disk_gb=1", *words]) == 0
    assert given["passed"] == ["--executor", "slurm", "-j", "3"] and given["run_name"] == "x"
    with pytest.raises(SystemExit):
        cli.main(["plan", "smoke", *words])
