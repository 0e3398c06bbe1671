"""`dartlib run`, `plan` and `status` on toy notebooks: resume, invalidation, kills, and everything refused."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from tiny_repository import FINISH, TinyRepository

from dartlib.pipeline import cli, status
from dartlib.records import read_manifest

STAGES = [
    "00_start_here",
    "02_synthesis",
    "01_bias_analysis",
    "03_training/vrt-seed1",
    "03_training/uniform-seed1",
    "04_evaluation/base",
    "04_evaluation/vrt-seed1",
    "04_evaluation/uniform-seed1",
    "05_paper_figures",
]
DONE = "\n".join(FINISH)
BLOCK = "import pathlib, time\nwhile not pathlib.Path(RUN_FOLDER, 'go').exists():\n    time.sleep(0.1)"


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> TinyRepository:
    """A tiny repository whose toy run is complete. Tests that use it leave it complete."""
    repository = TinyRepository(tmp_path_factory.mktemp("complete"))
    done = repository.dartlib("run", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    return repository


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRepository:
    return TinyRepository(tmp_path)


def wait_for(path: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes that know the repository's folder from their environment: all that the run has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("PYTHONPATH", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_complete_run_leaves_manifests_and_does_nothing_the_second_time(complete: TinyRepository) -> None:
    for name in STAGES:
        manifest = read_manifest(complete.run_folder / name / "manifest.json")
        assert manifest.status == "complete"
        assert manifest.parameters["STAGE_FOLDER"] == f"papermill_runs/toy/{name}"
        assert f"{name}/metrics.json" in manifest.outputs and "notebook" in manifest.inputs
        assert str(complete.root) not in (complete.run_folder / name / "manifest.json").read_text()
    training = read_manifest(complete.run_folder / "03_training/uniform-seed1" / "manifest.json")
    assert training.parameters["EPOCHS"] == 2 and training.seeds == {"seed": 1}
    assert training.parameters["DATASET"] == "papermill_runs/toy/02_synthesis/datasets/uniform.parquet"
    assert "02_synthesis/manifest.json" in training.inputs
    started = time.monotonic()
    done = complete.dartlib("run", "toy")
    assert time.monotonic() - started < 20
    assert done.returncode == 0 and "nothing to do: all 9 stages of toy are complete" in done.stdout
    assert [complete.times_run(name) for name in STAGES] == [1] * 9


@pytest.mark.slow
def test_status_and_plan_of_a_complete_run(complete: TinyRepository) -> None:
    shown = complete.dartlib("status", "toy")
    assert shown.returncode == 0 and "all 9 stages complete" in shown.stdout
    plan = complete.dartlib("plan", "toy", "--set", "03_training.EPOCHS=4")
    lines = dict(line.split(maxsplit=1) for line in plan.stdout.splitlines()[:9])
    assert lines["02_synthesis"] == "reuse" and lines["04_evaluation/base"] == "reuse"
    assert lines["03_training/vrt-seed1"] == "run    EPOCHS: 2 -> 4"
    assert lines["04_evaluation/vrt-seed1"] == "run    after 03_training/vrt-seed1"
    assert "5 of 9 stages to run" in plan.stdout
    assert complete.dartlib("plan", "toy", "--run", "other").stdout.count("not made yet") == 9
    assert "nothing to do" in complete.dartlib("run", "toy").stdout, "a plan changes nothing"


@pytest.mark.slow
def test_changed_parameter_and_changed_notebook_rerun_only_what_depends(tiny: TinyRepository) -> None:
    assert tiny.dartlib("run", "toy").returncode == 0
    (tiny.run_folder / "02_synthesis" / "pool").mkdir()
    (tiny.run_folder / "02_synthesis" / "pool" / "shard").write_text("trials")
    done = tiny.dartlib("run", "toy", "--set", "03_training.EPOCHS=3")
    assert "settings changed since the last run of toy: 03_training/vrt-seed1, 03_training/uniform-seed1" in done.stdout
    kept = ["00_start_here", "01_bias_analysis", "02_synthesis", "04_evaluation/base"]
    assert [name for name in STAGES if f"[{name}] complete" in done.stdout] == [n for n in STAGES if n not in kept]
    assert tiny.times_run("03_training/vrt-seed1") == 1, "what other parameters left is removed before"
    tiny.write("02_synthesis", "changed = True", DONE)
    (tiny.root / "notebooks" / "04_evaluation.ipynb").touch()  # a new time alone changes nothing
    plan = tiny.dartlib("plan", "toy", "--set", "03_training.EPOCHS=3").stdout
    assert "02_synthesis                     run    changed: 02_synthesis.ipynb" in plan
    assert "04_evaluation/base               reuse" in plan
    assert tiny.dartlib("run", "toy", "--set", "03_training.EPOCHS=3").returncode == 0
    assert (tiny.run_folder / "02_synthesis" / "pool" / "shard").read_text() == "trials", "a pool is never removed"


@pytest.mark.slow
def test_failing_notebook_ends_the_run_and_the_same_command_goes_on(tiny: TinyRepository) -> None:
    tiny.write("01_bias_analysis", "total = 1", "raise RuntimeError('no such column')", DONE)
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 10
    assert "[01_bias_analysis]     | raise RuntimeError('no such column')" in done.stdout
    assert "FAILED 01_bias_analysis: cell error" in done.stderr
    stage = tiny.run_folder / "01_bias_analysis"
    assert (stage / "notebook.ipynb").is_file() and not (stage / "manifest.json").exists()
    shown = tiny.dartlib("status", "toy")
    assert shown.returncode == 1 and "cell error in cell 6: RuntimeError: no such column" in shown.stdout
    assert "to do: dartlib run toy" in shown.stdout
    tiny.write("01_bias_analysis", DONE)
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[02_synthesis]" not in done.stdout
    assert not (stage / "failure.json").exists()


@pytest.mark.slow
def test_notebook_without_metrics_is_not_complete(tiny: TinyRepository) -> None:
    tiny.write("00_start_here", "x = 1")
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 13 and "without writing metrics.json" in done.stdout
    assert not (tiny.run_folder / "02_synthesis").exists()


@pytest.mark.slow
def test_kill_dash_nine_then_the_same_command_finishes(tiny: TinyRepository) -> None:
    server = "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)"
    tiny.write("03_training", server, "open(STAGE_FOLDER + '/begun', 'w').close()", BLOCK, DONE)
    running = tiny.start("run", "toy")
    wait_for(tiny.run_folder / "03_training" / "vrt-seed1" / "begun")
    wait_for(tiny.run_folder / "01_bias_analysis" / "manifest.json")  # runs beside the training
    time.sleep(2)  # until the workflow has taken note of it
    before = processes_in(tiny.root)
    assert len(before) >= 5, "runner, supervisor, workflow, stage, kernel, server"
    running.send_signal(signal.SIGKILL)
    running.communicate()
    _, alive = psutil.wait_procs(before, timeout=5)
    assert [process.name() for process in alive] == []
    (tiny.run_folder / "go").touch()
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[02_synthesis]" not in done.stdout
    assert [tiny.times_run(name) for name in STAGES] == [1] * 9


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_second_coordinator_is_refused_and_a_signal_stops_the_first(tiny: TinyRepository, number, code: int) -> None:
    tiny.write("02_synthesis", "open(STAGE_FOLDER + '/begun', 'w').close()", BLOCK, DONE)
    running = tiny.start("run", "toy")
    wait_for(tiny.run_folder / "02_synthesis" / "begun")
    second = tiny.dartlib("run", "toy")
    assert second.returncode == 3
    assert len(second.stderr.splitlines()) == 1
    assert f"in use by process {running.pid} on {os.uname().nodename} since 20" in second.stderr
    running.send_signal(number)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == code and "stopped; `dartlib run toy` goes on from here" in out
    psutil.wait_procs(processes_in(tiny.root), timeout=5)
    assert processes_in(tiny.root) == []


@pytest.mark.slow
def test_leftovers_of_a_dead_coordinator_are_ended(tiny: TinyRepository) -> None:
    """A process that outlived its coordinator carries the mark that the run folder remembers."""
    tiny.run_folder.mkdir(parents=True)
    (tiny.run_folder / "coordinator.json").write_text(json.dumps({"mark": "abc"}))
    orphan = subprocess.Popen(["sleep", "300"], env={**os.environ, "DARTLIB_COORDINATOR": "abc"})
    tiny.write("00_start_here", "raise ValueError('far enough')")
    done = tiny.dartlib("run", "toy")
    assert "ended 1 leftover processes of an earlier run" in done.stdout
    assert orphan.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "smok"], "no profile 'smok': valid: toy"),
        (["run", "toy", "--set", "03_training.EPOCH=4"], "unknown parameter 'EPOCH': did you mean 'EPOCHS'?"),
        (["run", "toy", "--set", "03_training.EPOCHS='4'"], "parameter EPOCHS is '4' (str), expected int"),
        (["run", "toy", "--set", "03_training.SEED=4"], "03_training: SEED follows from the run and the profile's"),
        (["run", "toy", "--set", "enigne=local"], "unknown key 'enigne': did you mean 'engine'?"),
        (["run", "toy", "--engine", "fast"], "engine 'fast' is none of auto, vllm, local"),
        (["run", "toy", "--run", "../x"], "run name '../x': use small letters, digits and hyphens only"),
        (["run", "toy", "--set", "disk_gb=1000000"], "needs 1,000,000.0 GB free for"),
        (["status", "toy"], "toy: no run.json in this folder; `dartlib run` makes one"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(tiny: TinyRepository, arguments: list[str], message: str) -> None:
    done = tiny.dartlib(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert not tiny.run_folder.exists()


def test_full_disk_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run.json")

    monkeypatch.setattr(status, "load_run", full)
    assert cli.main(["status", "toy", "--runs", str(tmp_path)]) == 4
    assert capsys.readouterr().err == (
        "dartlib: the disk is full (run.json): free some space and run the same command\n"
    )


@pytest.mark.slow
def test_disk_that_fills_up_in_a_stage_fails_it_with_the_reason(tiny: TinyRepository) -> None:
    """/dev/full fails every write: here it stands where the first notebook writes."""
    tiny.write("00_start_here", "with open('/dev/full', 'w') as handle:\n    handle.write('x')", DONE)
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 10 and "OSError: [Errno 28] No space left on device" in done.stdout
    assert not (tiny.run_folder / "00_start_here" / "manifest.json").exists()


@pytest.mark.slow
def test_output_of_running_cells_is_shown_without_control_characters(
    tiny: TinyRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow runner limits its jobs to one thread; notebooks see what the user set, and no other limit."""
    for name in [name for name in os.environ if name.endswith("_THREADS")]:
        monkeypatch.delenv(name)  # torch and vLLM set some of their own when an earlier test imports them
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    limits = "import os; print('limits', sorted(k for k in os.environ.items() if k[0].endswith('_THREADS')))"
    tiny.write("00_start_here", "print('asking\\x1b[31m 3 of 9')", limits, DONE)
    tiny.write("02_synthesis", "raise SystemExit(1)", DONE)
    done = tiny.dartlib("run", "toy")
    assert "[00_start_here] asking [31m 3 of 9" in done.stdout
    assert "[00_start_here] limits [('MKL_NUM_THREADS', '3')]" in done.stdout
