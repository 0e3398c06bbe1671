"""Whole runs on a tiny model: settings matter, checkpoints are whole, faults are one line, children end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_toys import config, write_dataset, write_model

from dartlib.training import TrainingConfig, TrainingError, completed_report, train, training_command

torch = pytest.importorskip("torch")

from dartlib.training.child import fine_tune, learning_rate_at, main  # noqa: E402


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("toy") / "rows.parquet", 24)


def weights_after(folder: Path, data: Path, base: Path, settings: TrainingConfig) -> torch.Tensor:
    """Train in this process; all weights of the checkpoint in one vector."""
    from safetensors.torch import load_file

    fine_tune(dataset=data, base_model=base, output=folder, config=settings)
    stored = load_file(folder / "checkpoint" / "model.safetensors")
    return torch.cat([stored[name].flatten() for name in sorted(stored)])


@pytest.fixture(scope="module")
def plain(toy_model: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return weights_after(tmp_path_factory.mktemp("plain"), toy_data, toy_model, config())


def test_the_same_job_gives_the_same_weights(
    plain: torch.Tensor, toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    assert torch.equal(plain, weights_after(tmp_path, toy_data, toy_model, config()))


@pytest.mark.parametrize(
    "changes",
    [
        {"template": "qa"},
        {"learning_rate": 2e-2},
        {"epochs": 1},
        {"max_tokens_per_pack": 70},
        {"packs_per_step": 3},
        {"seed": 2},
        {"warmup_ratio": 0.5},
        {"weight_decay": 0.5},
        {"max_gradient_norm": 0.01},
        {"precision": "bf16"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_setting_changes_the_trained_weights(
    changes: dict[str, object], plain: torch.Tensor, toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    # packs_per_forward is the exception, by design: see test_training_loss
    assert not torch.equal(plain, weights_after(tmp_path, toy_data, toy_model, config(**changes)))


def test_the_schedule_worked_out_by_hand() -> None:
    settings = config(learning_rate=1.0, warmup_ratio=0.25)
    rates = [learning_rate_at(step, 8, settings) for step in range(8)]  # two steps of warm-up, then a cosine over six
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[5] == pytest.approx(0.5)
    assert rates[6:] == pytest.approx([0.25, 0.5 - 3**0.5 / 4])
    assert learning_rate_at(0, 1, settings) > 0
    assert [learning_rate_at(step, 4, replace(settings, warmup_ratio=0.0)) for step in range(2)] == pytest.approx(
        [1.0, 0.5 + 2**0.5 / 4]
    )


def test_a_run_in_a_child_learns_reports_and_loads_in_transformers(
    toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings, lines = config(epochs=6), []
    job = dict(dataset=toy_data, base_model=toy_model, output=tmp_path, config=settings)
    assert completed_report(**job) is None
    report = train(**job, log=lines.append)
    assert completed_report(**job) == report
    assert completed_report(**{**job, "config": config(epochs=6, seed=9)}) is None

    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == list(range(1, report.steps + 1))
    assert set(log[0]) == {"step", "epoch", "loss", "tokens", "lr", "seconds"}
    assert log[-1]["tokens"] == report.tokens > report.supervised_tokens
    assert report.rows == 24 and report.dropped_rows == 0 and report.epochs == 6
    assert report.final_loss < 0.5 * log[0]["loss"]
    last = log[-max(1, report.steps // 10) :]
    assert report.final_loss == pytest.approx(sum(entry["loss"] for entry in last) / len(last))
    assert any("tokens/s" in line and "s left" in line for line in lines)
    assert not any("Traceback" in line for line in lines)

    assert report.checkpoint == tmp_path / "checkpoint"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "training_log.jsonl", "training_output.txt"}
    trained = AutoModelForCausalLM.from_pretrained(report.checkpoint)
    assert trained.dtype == torch.bfloat16  # as the base model is stored
    words = AutoTokenizer.from_pretrained(report.checkpoint)
    assert trained.generation_config.eos_token_id == words.eos_token_id == 1
    settings_of = json.loads((report.checkpoint / "generation_config.json").read_text())
    assert settings_of.get("pad_token_id") is None  # it was the end token
    assert settings_of["eos_token_id"] == 1


def test_the_command_names_every_setting_and_can_be_run_by_hand(
    toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    settings = config(epochs=1)
    command = training_command(dataset=toy_data, base_model=toy_model, output=tmp_path, config=settings)
    assert command[1:3] == ["-m", "dartlib.training.child"]
    assert "--learning-rate=0.01" in command and "--precision=fp32" in command
    assert main(command[3:]) == 0
    assert completed_report(dataset=toy_data, base_model=toy_model, output=tmp_path, config=settings) is not None
    with pytest.raises(SystemExit):  # the child has no defaults of its own
        main(command[3:-1])


def test_another_data_set_template_or_model_is_another_job(toy_model: Path, toy_data: Path, tmp_path: Path) -> None:
    from dartlib.training.config import job_digest

    other_data = write_dataset(tmp_path / "other.parquet", 23)
    other_model = tmp_path / "other"
    other_model.mkdir()
    for path in toy_model.iterdir():
        content = path.read_bytes()
        (other_model / path.name).write_bytes(content[:-1] + b"\x01" if path.suffix == ".safetensors" else content)
    digests = {
        job_digest(toy_data, toy_model, config()),
        job_digest(other_data, toy_model, config()),
        job_digest(toy_data, other_model, config()),
        job_digest(toy_data, toy_model, config(template="qa")),
    }
    assert len(digests) == 4


def test_bad_input_is_one_line_and_an_exit_code(
    toy_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"query": ["1 + 1 ?"], "response": [" "]}), bad)
    command = training_command(dataset=bad, base_model=toy_model, output=tmp_path, config=config())
    assert main(command[3:]) == 2
    message = capfd.readouterr().err.strip()
    assert message.startswith("error: ") and message.endswith("row 0 has an empty response; remove the row")
    assert "\n" not in message
    with pytest.raises(TrainingError, match="^[^\n]*bad.parquet: row 0 has an empty response; remove the row$"):
        train(dataset=bad, base_model=toy_model, output=tmp_path, config=config(), log=lambda line: None)
    with pytest.raises(TrainingError, match="no config.json here"):
        train(dataset=bad, base_model=tmp_path, output=tmp_path, config=config(), log=lambda line: None)
    with pytest.raises(TrainingError, match="no such data set"):
        completed_report(dataset=tmp_path / "none", base_model=toy_model, output=tmp_path, config=config())


def test_a_loss_that_explodes_stops_the_run(toy_model: Path, toy_data: Path, tmp_path: Path) -> None:
    wild = config(learning_rate=1e30, max_gradient_norm=1e30)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        fine_tune(dataset=toy_data, base_model=toy_model, output=tmp_path, config=wild)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_an_interrupt_ends_the_child_and_leaves_nothing_that_looks_complete(
    toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    job = dict(dataset=toy_data, base_model=toy_model, output=tmp_path)
    train(**job, config=config(epochs=1), log=lambda line: None)
    assert (tmp_path / "checkpoint").exists()

    def interrupt_when_it_trains(line: str) -> None:
        if line.startswith("step 1/"):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            times.append(time.monotonic())

    times: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        train(**job, config=config(epochs=100_000), log=interrupt_when_it_trains)
    assert time.monotonic() - times[0] < 5
    assert not (tmp_path / "checkpoint").exists()  # the earlier one went when this run began
    assert completed_report(**job, config=config(epochs=100_000)) is None
    size = (tmp_path / "training_log.jsonl").stat().st_size
    time.sleep(0.5)
    assert (tmp_path / "training_log.jsonl").stat().st_size == size  # nobody writes any more
    assert train(**job, config=config(epochs=1), log=lambda line: None).steps > 0  # and it starts again from zero


@pytest.mark.model
def test_one_real_step_moves_the_weights(embedded: Path) -> None:
    """fp32 master weights: in pure bf16 only some 2 % would move at this rate."""
    from transformers import AutoTokenizer

    from dartlib.queries import get_template
    from dartlib.training.child import load_model
    from dartlib.training.data import encode_example
    from dartlib.training.loss import accumulate_gradients

    words = AutoTokenizer.from_pretrained(embedded)
    pairs = [("What is 3 + 4?", "Adding 4 to 3 gives 7. The answer is 7."), ("What is 2 * 4?", "The answer is 8.")]
    pack = [encode_example(*pair, template=get_template("ladder"), tokenizer=words) for pair in pairs]
    assert all(example.token_ids[-1] == words.eos_token_id for example in pack)
    model, stored = load_model(embedded)
    assert stored == torch.bfloat16
    before = [weights.detach().clone() for weights in model.parameters()]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    accumulate_gradients(model, [pack], packs_per_forward=1, precision="fp32")
    moved = with_gradient = 0
    for weights in model.parameters():
        assert weights.dtype == torch.float32
        with_gradient += int((weights.grad != 0).sum())
    optimiser.step()
    for old, weights in zip(before, model.parameters(), strict=True):
        moved += int(((weights != old) & (weights.grad != 0)).sum())
    assert with_gradient > 1e8
    assert moved > 0.95 * with_gradient
