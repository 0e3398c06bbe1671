"""`dartlib run`, `plan` and `status` on toy notebooks: resume, invalidation, kills, and everything refused."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from tiny_repository import TinyRepository, last_cell

from dartlib.pipeline import cli, status
from dartlib.pipeline.profiles import load_profile, with_overrides
from dartlib.pipeline.stages import build_run
from dartlib.records import read_manifest
from dartlib.training import load_recipe
from dartlib.training.memory import PAPER_MODELS

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
    assert training.inputs["EPOCHS"] == 2 and "02_synthesis/datasets/uniform.parquet" in training.inputs
    assert "02_synthesis/datasets/vrt.parquet" not in training.inputs, "only what it really reads"
    evaluation = read_manifest(complete.run_folder / "04_evaluation/base" / "manifest.json")
    assert evaluation.parameters["TEMPERATURE"] == 0.0, "defaults of the notebook are recorded"
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
    assert lines["02_synthesis"].startswith("reuse") and lines["04_evaluation/base"].startswith("reuse")
    assert lines["03_training/vrt-seed1"] == "run    changed: EPOCHS: 2 -> 4"
    assert lines["04_evaluation/vrt-seed1"] == "check  runs again if 03_training/vrt-seed1 makes other files for it"
    assert "2 of 9 stages to run, 3 to check" in plan.stdout
    assert complete.dartlib("plan", "toy", "--run", "other").stdout.count("not made yet") == 9
    assert "nothing to do" in complete.dartlib("run", "toy").stdout, "a plan changes nothing"


@pytest.mark.slow
def test_a_run_folder_under_another_name_is_complete(complete: TinyRepository) -> None:
    """Nothing hangs on paths: a clone, a renamed run, a folder on another disk."""
    moved = complete.run_folder.with_name("moved")
    complete.run_folder.rename(moved)
    try:
        shown = complete.dartlib("status", "toy", "--run", "moved")
        assert shown.returncode == 0 and "all 9 stages complete" in shown.stdout
        assert complete.dartlib("plan", "toy", "--run", "moved").stdout.count("reuse") == 9
    finally:
        moved.rename(complete.run_folder)


@pytest.mark.slow
def test_only_what_reads_other_files_runs_again_and_earlier_results_come_back(tiny: TinyRepository) -> None:
    """A larger quota of one strategy leaves the other strategy's student alone; back again, nothing is run."""
    assert tiny.dartlib("run", "toy").returncode == 0
    for pool in ("pool/a1", "temperature/b2"):
        (tiny.run_folder / "02_synthesis" / pool).mkdir(parents=True)
        (tiny.run_folder / "02_synthesis" / pool / "setting.json").write_text("trials")
    done = tiny.dartlib("run", "toy", "--set", "02_synthesis.UNIFORM_QUOTA=6")
    assert "02_synthesis: changed: UNIFORM_QUOTA: 5 -> 6" in done.stdout
    run = ["02_synthesis", "03_training/uniform-seed1", "04_evaluation/uniform-seed1"]
    assert [name for name in STAGES if f"[{name}] complete" in done.stdout] == run
    assert "[03_training/vrt-seed1]" not in done.stdout
    synthesis = tiny.run_folder / "02_synthesis"
    assert (synthesis / "pool/a1/setting.json").is_file() and (synthesis / "temperature/b2/setting.json").is_file()
    kept = sorted(path.parent.name for path in (tiny.run_folder / "superseded").glob("*/*/**/checkpoint"))
    assert kept == ["uniform-seed1"]
    back = tiny.dartlib("run", "toy")
    assert back.returncode == 0 and " started" not in back.stdout, back.stdout
    assert "UNIFORM_QUOTA: 6 -> 5" in back.stdout
    assert "all 9 stages complete" in tiny.dartlib("status", "toy").stdout
    tiny.write("02_synthesis", "changed = True", last_cell("02_synthesis"))
    assert "02_synthesis                     run    changed: the notebook's cells" in tiny.dartlib("plan", "toy").stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_shares_pool_and_base_and_a_changed_value_makes_its_own_students_only(tiny: TinyRepository) -> None:
    """A value that leaves waits in superseded/ and comes back unmade; `plan` tells; `status` knows the command."""
    tiny.profile(strategies=["vrt"])
    plan = tiny.dartlib("plan", "toy", "--sweep", "03_training.EPOCHS=1,3").stdout
    assert "03_training/vrt-epochs3-seed1" in plan and "9 of 9 stages to run" in plan
    assert "training vrt-epochs1, a student" in plan or "cost unknown" in plan
    assert tiny.dartlib("run", "toy", "--sweep", "03_training.EPOCHS=1,3").returncode == 0
    assert "all 9 stages complete" in tiny.dartlib("status", "toy").stdout
    weights = "{}/checkpoint/model.safetensors"
    made = [(tiny.run_folder / "03_training" / weights.format(f"vrt-epochs{n}-seed1")).read_text() for n in (1, 3)]
    assert made == ["7 vrt 0 1", "7 vrt 0 3"]
    other = tiny.dartlib("run", "toy", "--sweep", "03_training.EPOCHS=1,4")
    started = [line.split("]")[0][1:] for line in other.stdout.splitlines() if line.endswith("] started")]
    assert started == ["03_training/vrt-epochs4-seed1", "04_evaluation/vrt-epochs4-seed1", "05_paper_figures"]
    kept = ("02_synthesis", "03_training/vrt-epochs1-seed1", "04_evaluation/vrt-epochs1-seed1", "04_evaluation/base")
    assert [tiny.times_run(name) for name in kept] == [1] * 4
    back = tiny.dartlib("run", "toy", "--sweep", "03_training.EPOCHS=1,3")
    assert back.returncode == 0 and " started" not in back.stdout, back.stdout
    assert "4 stages to do" not in back.stdout and tiny.times_run("03_training/vrt-epochs3-seed1") == 1


@pytest.mark.slow
def test_students_of_earlier_seeds_leave_the_folder_with_their_stage(tiny: TinyRepository) -> None:
    """What 05 finds by looking round the run folder are the models of this run, though an earlier one made others."""
    look = "print('found', sorted(path.parent.name for path in pathlib.Path(RUN_FOLDER).glob('04*/*/items.parquet')))"
    tiny.write("05_paper_figures", last_cell("05_paper_figures") + "\n" + look)
    tiny.profile(training_seeds=[1, 2], strategies=["vrt"])
    assert "found ['base', 'vrt-seed1', 'vrt-seed2']" in tiny.dartlib("run", "toy").stdout
    tiny.profile(training_seeds=[1], strategies=["vrt"])
    done = tiny.dartlib("run", "toy")
    assert "04_evaluation/vrt-seed2: no stage of this run: its results wait in toy/superseded/" in done.stdout
    assert "[05_paper_figures] found ['base', 'vrt-seed1']" in done.stdout
    tiny.profile(training_seeds=[2], strategies=["vrt"])
    done = tiny.dartlib("run", "toy")
    assert "[05_paper_figures] found ['base', 'vrt-seed2']" in done.stdout
    assert "[03_training/vrt-seed2]" not in done.stdout, "taken back"


@pytest.mark.slow
def test_a_stage_with_stuck_queries_is_not_complete_and_the_same_command_goes_on(tiny: TinyRepository) -> None:
    stuck = "(folder / 'metrics.json').write_text(json.dumps({'stuck': 0 if (folder / 'seen').exists() else 16}))"
    tiny.write("02_synthesis", last_cell("02_synthesis") + f"\n{stuck}\n(folder / 'seen').touch()")
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 13 and "16 queries are stuck" in done.stdout
    assert not (tiny.run_folder / "02_synthesis" / "manifest.json").exists()
    shown = tiny.dartlib("status", "toy").stdout
    assert re.search(r"02_synthesis +incomplete +incomplete: 16 queries are stuck", shown)
    assert tiny.dartlib("run", "toy").returncode == 0
    assert tiny.times_run("02_synthesis") == 2, "it went on with what it had"


@pytest.mark.slow
def test_a_run_folder_of_an_earlier_version_is_continued(tiny: TinyRepository) -> None:
    """Its manifests have no digest: the stages run again over their pools, what was there waits."""
    assert tiny.dartlib("run", "toy", "--set", "strategies=[vrt]").returncode == 0
    for name in ("complete.txt", "begun.txt"):
        for path in tiny.run_folder.rglob(name):
            path.unlink()
    for path in tiny.run_folder.rglob("manifest.json"):
        values = json.loads(path.read_text())
        del values["digest"]
        path.write_text(json.dumps(values))
    assert tiny.dartlib("status", "toy").stdout.count("earlier version of dartlib, which kept no digest") == 7
    done = tiny.dartlib("run", "toy", "--set", "strategies=[vrt]")
    assert done.returncode == 0 and done.stdout.count("] complete in") == 7
    assert len(list((tiny.run_folder / "superseded").glob("2*/00_start_here/manifest.json"))) == 1


@pytest.mark.slow
def test_failing_notebook_ends_the_run_and_the_same_command_goes_on(tiny: TinyRepository) -> None:
    tiny.write("01_bias_analysis", "total = 1", "raise RuntimeError('no such column')", last_cell("01_bias_analysis"))
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 10
    assert "[01_bias_analysis]     | raise RuntimeError('no such column')" in done.stdout
    assert "FAILED 01_bias_analysis: cell error" in done.stderr
    stage = tiny.run_folder / "01_bias_analysis"
    assert (stage / "notebook.ipynb").is_file() and not (stage / "manifest.json").exists()
    shown = tiny.dartlib("status", "toy")
    assert shown.returncode == 1 and "cell error in cell 6: RuntimeError: no such column" in shown.stdout
    assert "to do: dartlib run toy" in shown.stdout
    tiny.write("01_bias_analysis", last_cell("01_bias_analysis"))
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
def test_a_fault_outside_of_the_notebook_is_told_with_its_stage(tiny: TinyRepository) -> None:
    """Any error of ours or of a library; here metrics that are no JSON."""
    tiny.write("00_start_here", "import pathlib\n(pathlib.Path(STAGE_FOLDER) / 'metrics.json').write_text('{')")
    done = tiny.dartlib("run", "toy")
    assert done.returncode == 1 and "FAILED 00_start_here: unexpected, exit code 1" in done.stderr
    assert "FAILED: unexpected\nJSONDecodeError" in (tiny.run_folder / "00_start_here" / "log.txt").read_text()


@pytest.mark.slow
def test_kill_dash_nine_then_the_same_command_finishes(tiny: TinyRepository) -> None:
    server = "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)"
    tiny.write("03_training", server, "open(STAGE_FOLDER + '/begun', 'w').close()", BLOCK, last_cell("03_training"))
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
    tiny.write("02_synthesis", "open(STAGE_FOLDER + '/begun', 'w').close()", BLOCK, last_cell("02_synthesis"))
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
        (["status", "toy", "--run", "other"], "other: no run.json in this folder; `dartlib run` makes one"),
        (["run", "toy", "--run", "newest"], "and not 'newest'"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(tiny: TinyRepository, arguments: list[str], message: str) -> None:
    done = tiny.dartlib(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert not tiny.run_folder.exists()


@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_options_are_the_same_everywhere_and_never_guessed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--ru is neither --run nor --runs; --run means the run's name wherever a run is meant."""
    try:
        code = cli.main([command, "smoke", "--ru", "x"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and "unrecognized arguments: --ru" in capsys.readouterr().err
    assert cli._parser().parse_args([command, "smoke", "--run", "x"]).run == "x"


def test_a_plan_with_too_many_ladder_queries_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "smoke", "--runs", str(tmp_path), "--set", "02_synthesis.QUERIES_PER_LEVEL=100000"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "synthesis: cost unknown (level 1 of ladder 'arithmetic' has" in out and "100000 were asked for" in out
    assert cli.main(arguments[:4]) == 0
    assert "synthesis: 50 queries, 400 to 2,000 trials, at most 128,000 new tokens" in capsys.readouterr().out


def test_a_plan_tells_what_a_student_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three problems, 52 answers each at most, 2,048 tokens and a prompt: 342,888 an epoch, in packs of 4,096."""
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(f'{{"query": "q{n}", "reference_answer": "{n}"}}\n' for n in range(3)))
    arguments = ["plan", "paper", "--runs", str(tmp_path), "--set", f"02_synthesis.QUERIES={problems}"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "training, a student of at most 156 rows" in out
    assert "7.24 B parameters, 1,028,664 tokens in 3 epochs, about 6 steps of 262,144 tokens on 8 processes" in out
    assert len([line for line in out.splitlines() if "GB per process" in line]) == 7 and "<- recipe" in out
    assert cli.main([*arguments, "--set", "03_training.RECIPE=absent"]) == 0
    assert "training: cost unknown" in capsys.readouterr().out


def test_a_plan_tells_gpu_hours_disk_and_each_stages_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """52 to 2,048 trials of three problems at 100 an hour: 1.56 to 61.4; 156 rows, 3 epochs, 3 students at 10: 140.4.

    11,612 = 5,000 + 1,319 + 2,818 + 1,000 + 675 + 800 questions; at most 700 of each are 4,175.
    """
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(f'{{"query": "q{n}", "reference_answer": "{n}"}}\n' for n in range(3)))
    arguments = ["plan", "paper", "--runs", str(tmp_path), "--set", f"02_synthesis.QUERIES={problems}"]
    arguments += ["--set", "throughput.samples=100", "--set", "throughput.rows=10"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "2 to 61 GPU hours at 100 samples an hour" in out and "a pool of at most 0.1 GB on disk" in out
    assert "at most 140 GPU hours for 3 students at 10 rows an hour" in out
    assert "14.5 GB a student in bf16, and 86.9 GB to go on from" in out and "--zero-stage=3" in out
    assert "11,612 questions to each of 4 models: 46,448 samples, 464.5 GPU hours" in out
    assert f"dartlib stage {tmp_path}/paper 03_training/vrt-seed1  # 8 GPUs, 64 cores, 512000 MB, 1440 min" in out
    assert out.count("  dartlib stage ") == 11
    assert cli.main([*arguments, "--set", "04_evaluation.ITEMS=700", "--set", "throughput={}"]) == 0
    out = capsys.readouterr().out
    assert "4,175 questions to each of 4 models: 16,700 samples\n" in out and "GPU hours" not in out


def test_the_papers_variants_and_its_rehearsal_are_whole(tmp_path: Path) -> None:
    """Parameters are checked, recipes and base models known; the rehearsal keeps the prompts and benchmarks."""
    paper = load_profile("paper")
    for name in paper.variants:
        changed = with_overrides(paper, [], [name])
        run = build_run(changed, tmp_path / name, "")
        recipe = load_recipe(run.stage("03_training/vrt-seed1").parameters["RECIPE"])
        assert recipe.zero_stage == 3 and recipe.gradient_checkpointing
        prompts = {"02_synthesis": ["TEMPLATE"], "04_evaluation/base": ["TEMPLATE", "BASE_TEMPLATE", "BENCHMARKS"]}
        for stage, kept in prompts.items():
            own = build_run(paper, tmp_path / "paper", "").stage(stage).parameters
            assert [run.stage(stage).parameters[key] for key in kept] == [own[key] for key in kept]
        assert run.stage("02_synthesis").parameters["OPTIONS"]["pool"].startswith("papermill_runs/paper-")
        if name != "rehearsal":
            assert changed.base_model in PAPER_MODELS
    rehearsal = with_overrides(paper, [], ["llama3-8b", "rehearsal"])
    assert (rehearsal.name, rehearsal.base_model) == ("paper-llama3-8b-rehearsal", "embedded")
    assert rehearsal.notebooks["03_training"]["LEARNING_RATE"] == 5.0e-5, "the base model's own settings stay"


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
    tiny.write(
        "00_start_here", "with open('/dev/full', 'w') as handle:\n    handle.write('x')", last_cell("00_start_here")
    )
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
    tiny.write("00_start_here", "print('asking\\x1b[31m 3 of 9')", limits, last_cell("00_start_here"))
    tiny.write("02_synthesis", "raise SystemExit(1)", last_cell("02_synthesis"))
    done = tiny.dartlib("run", "toy")
    assert "[00_start_here] asking [31m 3 of 9" in done.stdout
    assert "[00_start_here] limits [('MKL_NUM_THREADS', '3')]" in done.stdout
