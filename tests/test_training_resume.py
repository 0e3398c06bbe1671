"""Killed and gone on: the same weights to the last bit, each step logged once, each row trained on once an epoch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from training_toys import job, model, write_dataset, write_model

from dartlib.training import Job, Recipe, TrainingError, train, training_command

torch = pytest.importorskip("torch")

from dartlib.training.child import fine_tune  # noqa: E402
from dartlib.training.progress import cut_log, read_log  # noqa: E402

PROBE = Path(__file__).with_name("training_probe.py")


def command_with_probe(run: Job) -> list[str]:
    command = training_command(run)
    place = command.index("dartlib.training.child")
    return [*command[: place - 1], str(PROBE), *command[place + 1 :]]


def run_until_killed(run: Job, **probe: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRAINING_PROBE": json.dumps(probe), "TRANSFORMERS_VERBOSITY": "error"}
    return subprocess.run(
        command_with_probe(run), env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def student(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "checkpoint" / "model.safetensors")


def check_ledger(folder: Path, *, rows: int, epochs: int) -> None:
    """From the log: every step once and in order, every row once in every epoch."""
    log = read_log(folder / "training_log.jsonl")
    assert [line["step"] for line in log] == list(range(1, len(log) + 1))
    seen = Counter((line["epoch"], row) for line in log for row in line["rows"])
    assert seen == Counter((epoch, row) for epoch in range(epochs) for row in range(1, rows + 1))


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """With dropout, so that the random state matters, and stored in fp32, so that no difference is rounded away."""
    folder = tmp_path_factory.mktemp("toys")
    made = model(attention_dropout=0.2)
    assert sum(weights.numel() for weights in made.parameters()) < 1_000_000
    return dict(
        dataset=write_dataset(folder / "rows.parquet", 24),
        base_model=write_model(folder / "model", made, dtype="float32"),
    )


@pytest.fixture(scope="module")
def uninterrupted(toys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 steps in two epochs, in a process of its own as the others."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_until_killed(job(folder, **toys))
    assert done.returncode == 0, done.stderr
    return folder


def assert_same(folder: Path, uninterrupted: Path) -> None:
    ours, theirs = student(folder), student(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    logs = [read_log(place / "training_log.jsonl") for place in (folder, uninterrupted)]
    same = ("step", "epoch", "loss", "tokens", "lr", "rows")
    assert [[line[key] for key in same] for line in logs[0]] == [[line[key] for key in same] for line in logs[1]]
    check_ledger(folder, rows=24, epochs=2)
    assert not (folder / "resume").exists()


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_same_bits(
    toys: dict[str, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    """In mid-step; while the next checkpoint is written; after the first epoch's last step and before the next."""
    run = job(tmp_path, **toys, recipe=Recipe(checkpoint_steps=2))
    steps = len(read_log(uninterrupted / "training_log.jsonl"))
    first_epoch = [line["epoch"] for line in read_log(uninterrupted / "training_log.jsonl")].count(0)
    assert run_until_killed(run, kill=["workers.OneProcess.step", 4]).returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "resume").glob("step-*")] == ["step-00000002"]
    assert len(read_log(tmp_path / "training_log.jsonl")) == 3  # one more than the checkpoint knows of

    assert run_until_killed(run, kill=["resume._save_random_state", 1]).returncode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "resume").glob("*step*")) == [
        ".step-00000004.partial",
        "step-00000002",
    ]

    again = first_epoch - 2 + 1  # the first step of epoch 1, counted from step 3
    assert run_until_killed(run, kill=["steps.accumulate_gradients", again]).returncode == -signal.SIGKILL
    assert len(read_log(tmp_path / "training_log.jsonl")) == first_epoch < steps
    kept = sorted(path.name for path in (tmp_path / "resume").glob("step-*"))
    assert kept == [f"step-{number:08d}" for number in (first_epoch // 2 * 2 - 2, first_epoch // 2 * 2)]

    assert run_until_killed(run).returncode == 0
    assert_same(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-1, 0, 1], ids=["before", "at", "after"])
def test_verl_7401_a_checkpoint_at_an_epochs_boundary_skips_no_epoch(
    offset: int, toys: dict[str, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    first_epoch = [line["epoch"] for line in read_log(uninterrupted / "training_log.jsonl")].count(0)
    run = job(tmp_path, **toys, recipe=Recipe(checkpoint_steps=first_epoch + offset))
    killed = run_until_killed(run, kill=["steps.accumulate_gradients", first_epoch + offset + 1])
    assert killed.returncode == -signal.SIGKILL
    assert run_until_killed(run).returncode == 0
    assert_same(tmp_path, uninterrupted)


@pytest.mark.endurance
def test_killed_ten_times_at_any_moment(toys: dict[str, Path], tmp_path: Path) -> None:
    """From outside, after a random time, so also while it starts, writes or ends."""
    generator = random.Random(5)
    runs = {
        name: job(tmp_path / name, **toys, epochs=60, recipe=Recipe(checkpoint_steps=3)) for name in ("whole", "killed")
    }
    started = time.monotonic()
    assert run_until_killed(runs["whole"]).returncode == 0
    whole = time.monotonic() - started
    for _ in range(10):
        child = subprocess.Popen(
            command_with_probe(runs["killed"]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(generator.uniform(0.3, 1.0) * whole / 2)
        child.kill()
        child.wait()
    assert run_until_killed(runs["killed"]).returncode == 0
    ours, theirs = student(tmp_path / "killed"), student(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    check_ledger(tmp_path / "killed", rows=24, epochs=60)


def kept_at(folder: Path, toys: dict[str, Path], step: int, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Leave a run in ``folder`` that ended by an exception before step ``step`` + 1, with a checkpoint at ``step``."""
    from dartlib.training import steps

    done, accumulate = [], steps.accumulate_gradients

    def stop(*arguments: object, **named: object) -> float:
        done.append(1)
        if len(done) > step:
            raise KeyboardInterrupt
        return accumulate(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "accumulate_gradients", stop)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(job(folder, **toys, recipe=Recipe(checkpoint_steps=step), **changes))


def test_automodel_2511_tied_weights_are_tied_again_after_a_resume(
    toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of step k + 1 is that of the uninterrupted run, and head and embedding are one tensor."""
    from dartlib.training import steps

    whole = fine_tune(job(tmp_path / "whole", **toys))
    assert whole is not None
    kept_at(tmp_path / "cut", toys, 3, monkeypatch)
    seen, accumulate = [], steps.accumulate_gradients

    def look(worker, *arguments: object, **named: object) -> float:
        head, words = worker.module.model.get_output_embeddings(), worker.module.model.get_input_embeddings()
        seen.append((head.weight is words.weight, worker.module.loss.weight is words.weight))
        return accumulate(worker, *arguments, **named)

    monkeypatch.setattr(steps, "accumulate_gradients", look)
    fine_tune(job(tmp_path / "cut", **toys, recipe=Recipe(checkpoint_steps=3)))
    assert set(seen) == {(True, True)}
    logs = [read_log(tmp_path / name / "training_log.jsonl") for name in ("whole", "cut")]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_ms_swift_10050_a_resume_in_a_later_epoch_keeps_that_epochs_order(
    toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tune(job(tmp_path / "whole", **toys))
    whole = read_log(tmp_path / "whole" / "training_log.jsonl")
    second_epoch = next(line["step"] for line in whole if line["epoch"] == 1)
    kept_at(tmp_path / "cut", toys, second_epoch + 1, monkeypatch)
    fine_tune(job(tmp_path / "cut", **toys, recipe=Recipe(checkpoint_steps=second_epoch + 1)))
    cut = read_log(tmp_path / "cut" / "training_log.jsonl")
    assert [line["rows"] for line in cut] == [line["rows"] for line in whole]
    assert [line["rows"] for line in cut if line["epoch"] == 0] != [line["rows"] for line in cut if line["epoch"] == 1]


@pytest.mark.parametrize("change", ["settings", "data", "model"])
def test_a_checkpoint_of_another_plan_is_refused_with_the_way_out(
    change: str, toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_at(tmp_path / "cut", toys, 3, monkeypatch)
    changed, settings = dict(toys), {}
    if change == "data":
        changed["dataset"] = write_dataset(tmp_path / "other.parquet", 23)
    elif change == "model":
        changed["base_model"] = write_model(tmp_path / "other", model(seed=1), dtype="float32")
    else:
        settings["learning_rate"] = 0.02
    with pytest.raises(TrainingError, match="step-00000003 is a checkpoint of another plan.*Delete .*resume"):
        fine_tune(job(tmp_path / "cut", **changed, **settings))
    assert (tmp_path / "cut" / "resume" / "step-00000003").is_dir()  # nothing is lost by asking


def test_checkpoints_come_by_time_too_and_only_the_last_two_stay(
    toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartlib.training.resume import Checkpoints

    saved, save = [], Checkpoints.save

    def look(self: Checkpoints, worker, step: int) -> None:
        save(self, worker, step)
        saved.append(sorted(int(path.name[5:]) for path in self.folder.glob("step-*")))

    monkeypatch.setattr(Checkpoints, "save", look)
    fine_tune(job(tmp_path / "often", **toys, recipe=Recipe(checkpoint_minutes=1e-9)))
    assert saved[:3] == [[1], [1, 2], [2, 3]]
    saved.clear()
    fine_tune(job(tmp_path / "seldom", **toys, recipe=Recipe(checkpoint_minutes=60.0)))
    assert saved == []


def test_what_was_logged_after_the_checkpoint_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')  # killed while it wrote
    assert read_log(path) == [{"step": 1}, {"step": 2}, {"step": 3}]
    assert cut_log(path, 2) == [{"step": 1}, {"step": 2}]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert cut_log(tmp_path / "none.jsonl", 0) == []


def test_two_runs_in_one_folder_are_refused(toys: dict[str, Path], tmp_path: Path) -> None:
    from dartlib.leases import Lease, LeaseHeld

    with Lease(tmp_path, "training"):
        (tmp_path / "training_output.txt").write_text("of the other\n")
        with pytest.raises(LeaseHeld, match="is in use by process"):
            train(job(tmp_path, **toys), log=lambda line: None)
        assert (tmp_path / "training_output.txt").read_text() == "of the other\n"
        found = run_until_killed(job(tmp_path, **toys))
    assert found.returncode == 2
    assert found.stderr.strip().splitlines()[-1].startswith(f"error: {tmp_path} is in use by process")


def test_a_log_short_of_the_plan_makes_no_student(
    toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartlib.training import child

    whole = child.run_steps
    monkeypatch.setattr(child, "run_steps", lambda *arguments: whole(*arguments)[:-1])
    with pytest.raises(TrainingError, match="does not hold each of the 12 steps once"):
        fine_tune(job(tmp_path, **toys))
    assert not (tmp_path / "checkpoint").exists()
