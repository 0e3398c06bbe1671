"""A whole toy run through a real Slurm: killed, cancelled and cut by its time limit, finished by the same command.

`make test-cluster` runs it where Slurm answers; one node of two cores is enough. Nothing here needs a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_repository import TinyRepository, last_cell

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
PARTITION = os.environ.get("DARTLIB_TEST_PARTITION", "main")
COMMAND = ["run", "toy", "--executor", "slurm", "--jobs", "2", "--slurm-init-seconds-before-status-checks", "5"]
COMMAND += ["--default-resources", f"slurm_partition={PARTITION}", "slurm_account=none"]
COMMAND += ["--slurm-status-command", "squeue"]  # a small Slurm keeps no accounts, which sacct would read
ASKED = """import os, subprocess
job = subprocess.run(["scontrol", "show", "job", "-o", os.environ["SLURM_JOB_ID"]], capture_output=True, text=True)
open(STAGE_FOLDER + "/job.txt", "w").write(job.stdout)"""
BLOCK = """import pathlib, time
open(STAGE_FOLDER + '/begun', 'w').close()
while not pathlib.Path(RUN_FOLDER, 'go').exists():
    time.sleep(0.1)"""
SLOW_AT_FIRST = """import pathlib, time
tried = pathlib.Path(RUN_FOLDER, 'tried')
if not tried.exists():
    tried.touch()
    time.sleep(900)"""


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.fixture(scope="module", autouse=True)
def a_real_slurm() -> None:
    if shutil.which("sbatch") is None:
        pytest.skip("no Slurm here: sbatch is not installed")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed: make env")
    try:
        states = slurm("sinfo", "-h", "-p", PARTITION, "-o", "%t").split()
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"Slurm does not answer: {error}")
    if not {"idle", "mix"} & set(states):
        pytest.skip(f"no node of partition {PARTITION} is free: {states} (DARTLIB_TEST_PARTITION names another)")


def wait_until(what: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)


def own_jobs(root: Path) -> list[str]:
    """Ids of the jobs of this test's run that wait or run."""
    lines = slurm("squeue", "-h", "-o", "%A %Z").splitlines()
    return [line.split()[0] for line in lines if line.split()[-1].startswith(str(root))]


def to_its_end(tiny: TinyRepository) -> subprocess.CompletedProcess[str]:
    process = tiny.start(*COMMAND)
    out, err = process.communicate(timeout=900)
    return subprocess.CompletedProcess(COMMAND, process.returncode, out, err)


def test_a_killed_a_cancelled_and_a_timed_out_job_and_the_same_command_finishes(tmp_path: Path) -> None:
    tiny = TinyRepository(tmp_path)
    tiny.profile(
        strategies=["vrt"],
        resources={"default": {"cpus": 1, "mem_mb": 700, "runtime": 9}, "03_training": {"mem_mb": 800, "runtime": 2}},
    )
    tiny.write("02_synthesis", ASKED, BLOCK, last_cell("02_synthesis"))
    tiny.write("03_training", ASKED, SLOW_AT_FIRST, last_cell("03_training"))
    synthesis, training = tiny.run_folder / "02_synthesis", tiny.run_folder / "03_training" / "vrt-seed1"

    running = tiny.start(*COMMAND)  # its coordinator is killed: the job stays behind, and works on
    wait_until((synthesis / "begun").exists)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert own_jobs(tmp_path), "the batch system goes on with it"
    (synthesis / "begun").unlink()

    running = tiny.start(*COMMAND)  # the next one ends that job; its own is cancelled
    wait_until((synthesis / "begun").exists)
    wait_until(lambda: len(own_jobs(tmp_path)) == 1)
    slurm("scancel", *own_jobs(tmp_path))
    _, err = running.communicate(timeout=600)
    assert running.returncode != 0 and "FAILED" in err
    assert not (synthesis / "manifest.json").exists()
    assert "stopped by a signal" in (synthesis / "log.txt").read_text()

    (tiny.run_folder / "go").touch()
    done = to_its_end(tiny)  # the training sleeps beyond its two minutes
    assert done.returncode != 0 and "FAILED" in done.stderr, done.stdout
    assert (synthesis / "manifest.json").exists() and not (training / "manifest.json").exists()

    done = to_its_end(tiny)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 7 stages complete" in tiny.dartlib("status", "toy").stdout
    stages = [stage["name"] for stage in json.loads((tiny.run_folder / "run.json").read_text())["stages"]]
    assert [tiny.times_run(name) for name in stages] == [1] * 7, "none was executed to its end twice"
    for folder, asked in (
        (synthesis, ("TimeLimit=00:09:00", "mem=700M")),
        (training, ("TimeLimit=00:02:00", "mem=800M")),
    ):
        job = (folder / "job.txt").read_text()
        assert all(text in job for text in asked), job


def test_ctrl_c_cancels_the_jobs(tmp_path: Path) -> None:
    tiny = TinyRepository(tmp_path)
    tiny.profile(strategies=["vrt"])
    tiny.write("02_synthesis", BLOCK, last_cell("02_synthesis"))
    running = tiny.start(*COMMAND)
    wait_until((tiny.run_folder / "02_synthesis" / "begun").exists)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    wait_until(lambda: not own_jobs(tmp_path), 60)
