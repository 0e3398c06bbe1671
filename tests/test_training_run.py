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
from training_toys import config, family, job, model, rows, tokenizer, write_dataset, write_model

from dartlib.queries import get_template
from dartlib.training import (
    Job,
    Recipe,
    TrainingConfig,
    TrainingError,
    completed_report,
    plan_steps,
    read_examples,
    train,
    training_command,
)

torch = pytest.importorskip("torch")

from dartlib.training.child import fine_tune, main  # noqa: E402
from dartlib.training.steps import learning_rate_at  # noqa: E402


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("toy") / "rows.parquet", 24)


def weights_after(folder: Path, data: Path, base: Path, settings: TrainingConfig) -> torch.Tensor:
    """Train in this process; all weights of the checkpoint in one vector."""
    from safetensors.torch import load_file

    fine_tune(Job(data, base, folder, settings))
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
        {"packing": "best-fit"},
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
    run = Job(toy_data, toy_model, tmp_path, settings)
    assert completed_report(run) is None
    report = train(run, log=lines.append)
    assert completed_report(run) == report
    assert completed_report(replace(run, config=config(epochs=6, seed=9))) is None
    assert completed_report(replace(run, recipe=Recipe(lora_rank=4))) is None
    assert completed_report(replace(run, recipe=Recipe(gradient_checkpointing=True))) == report  # the same student

    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == list(range(1, report.steps + 1))
    assert set(log[0]) == {"step", "epoch", "loss", "tokens", "lr", "seconds", "rows"}
    assert log[-1]["tokens"] == report.tokens > report.supervised_tokens
    assert report.rows == 24 and report.dropped_rows == 0 and report.epochs == 6
    assert report.final_loss < 0.5 * log[0]["loss"]
    last = log[-max(1, report.steps // 10) :]
    assert report.final_loss == pytest.approx(sum(entry["loss"] for entry in last) / len(last))
    assert any("tokens/s" in line and "s left" in line for line in lines)
    assert not any("Traceback" in line for line in lines)

    assert report.checkpoint == tmp_path / "checkpoint"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint", "lease.json", "training_log.jsonl", "training_output.txt"}
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
    run = Job(toy_data, toy_model, tmp_path, settings)
    command = training_command(run)
    assert command[1:3] == ["-m", "dartlib.training.child"]
    assert "--learning-rate=0.01" in command and "--precision=fp32" in command
    assert main(command[3:]) == 0
    assert completed_report(run) is not None
    with pytest.raises(SystemExit):  # the child has no defaults of its own
        main(command[3:-1])


def test_another_data_set_template_model_or_lora_is_another_job(
    toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    other_data = write_dataset(tmp_path / "other.parquet", 23)
    other_model = tmp_path / "other"
    other_model.mkdir()
    for path in toy_model.iterdir():
        content = path.read_bytes()
        (other_model / path.name).write_bytes(content[:-1] + b"\x01" if path.suffix == ".safetensors" else content)
    run = Job(toy_data, toy_model, tmp_path, config())
    others = (
        dict(dataset=other_data),
        dict(base_model=other_model),
        dict(config=config(template="qa")),
        dict(recipe=Recipe(lora_rank=2)),
        dict(recipe=Recipe(lora_rank=2, lora_alpha=8)),
    )
    assert len({run.digest(), *(replace(run, **changes).digest() for changes in others)}) == 6
    shared = Recipe(processes=2, zero_stage=3, offload=True, gradient_checkpointing=True)
    assert replace(run, recipe=shared).digest() == run.digest()


def test_bad_input_is_one_line_and_an_exit_code(
    toy_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"query": ["1 + 1 ?"], "response": [" "]}), bad)
    run = Job(bad, toy_model, tmp_path, config())
    assert main(training_command(run)[3:]) == 2
    message = capfd.readouterr().err.strip()
    assert message.startswith("error: ") and message.endswith("row 1: response is empty: give it or delete the row")
    assert "\n" not in message
    with pytest.raises(TrainingError, match="^[^\n]*bad.parquet, row 1: response is empty: give it or delete the row$"):
        train(run, log=lambda line: None)
    with pytest.raises(TrainingError, match="no config.json here"):
        train(replace(run, base_model=tmp_path), log=lambda line: None)
    with pytest.raises(TrainingError, match="no such data set"):
        completed_report(replace(run, dataset=tmp_path / "none"))


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Gemma2"])
def test_every_family_trains_saves_and_answers_as_it_was_taught(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = write_model(tmp_path / "model", family(name))
    data = write_dataset(tmp_path / "rows.parquet", 2)
    run = job(tmp_path, dataset=data, base_model=base, recipe=Recipe(attention="eager"), epochs=40)
    report = fine_tune(run)
    assert report is not None and report.final_loss < 0.1
    student = AutoModelForCausalLM.from_pretrained(report.checkpoint)
    assert type(student).__name__ == f"{name}ForCausalLM" and student.dtype == torch.bfloat16
    assert student.config.tie_word_embeddings == family(name).config.tie_word_embeddings
    words = AutoTokenizer.from_pretrained(report.checkpoint)
    prompt = words(get_template("ladder").render(rows(2)[1].query), return_tensors="pt")
    reply = student.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt.input_ids.shape[1] :]
    assert reply.tolist() == [*words(rows(2)[1].response, add_special_tokens=False).input_ids, words.eos_token_id]


def test_a_window_shorter_than_a_row_is_refused(tmp_path: Path) -> None:
    made = family("Mistral")
    made.config.sliding_window = 8
    run = job(tmp_path, dataset=write_dataset(tmp_path / "rows.parquet"), base_model=write_model(tmp_path / "m", made))
    with pytest.raises(TrainingError, match="exceeds the model's window: set max_tokens_per_pack to 8"):
        fine_tune(run)


def test_attention_that_is_not_installed_is_named(toy_model: Path, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="flash_attention_2: computes in bf16 only, set PRECISION to bf16"):
        fine_tune(Job(toy_data, toy_model, tmp_path, config(), Recipe(attention="flash_attention_2")))
    settings = config(precision="bf16")
    with pytest.raises(TrainingError, match="flash_attention_2: .*(install|GPU|CUDA|cuda)"):
        fine_tune(Job(toy_data, toy_model, tmp_path, settings, Recipe(attention="flash_attention_2")))


def test_a_loss_that_is_no_number_stops_with_step_rows_and_last_checkpoint(
    toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    wild = config(learning_rate=1e30, max_gradient_norm=1e30, warmup_ratio=0.0)
    run = Job(toy_data, toy_model, tmp_path, wild, Recipe(checkpoint_steps=1))
    with pytest.raises(TrainingError) as caught:
        fine_tune(run)
    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    steps = plan_steps(read_examples(toy_data, tokenizer(), wild).lengths, wild)
    message, done = str(caught.value), len(log)
    assert message.startswith("the loss is ")
    assert f" at step {done + 1}: lower the learning rate (1e+30), or look at rows " in message
    assert message.endswith(f"of rows.parquet; the last good checkpoint is step-{done:08d}")
    named = set(map(int, message.partition("rows ")[2].partition(" of")[0].split(", ")))
    assert named == {number + 1 for pack in steps[done].packs for number in pack}
    assert not (tmp_path / "checkpoint").exists()


def test_a_loss_that_explodes_stops_though_it_is_a_number(
    toy_model: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartlib.training import steps

    losses = iter([0.5, 0.4] * 5 + [2.9, 3.1])  # 2.9 is a hard step, 3.1 is guessing
    monkeypatch.setattr(steps, "accumulate_gradients", lambda *arguments, **named: next(losses))
    with pytest.raises(TrainingError, match="the loss is 3.1 at step 12: .* the last good checkpoint is none"):
        fine_tune(Job(toy_data, toy_model, tmp_path, config()))


def test_lora_trains_adapters_only_and_is_merged_into_a_plain_checkpoint(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Student = base + alpha / rank x B A at every linear layer of the decoder, and nothing else moved."""
    from safetensors.torch import load_file

    from dartlib.training import child

    base = write_model(tmp_path / "model", model(), dtype="float32")
    adapters: dict[str, torch.Tensor] = {}
    merge = child.merge_lora

    def look(trained, whole) -> None:
        adapters.update({name: weights.detach().clone() for name, weights in trained.named_parameters()})
        merge(trained, whole)

    monkeypatch.setattr(child, "merge_lora", look)
    recipe = Recipe(lora_rank=4, lora_alpha=8)
    report = fine_tune(job(tmp_path, dataset=toy_data, base_model=base, recipe=recipe, epochs=4))
    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    assert report is not None and report.final_loss < 0.8 * log[0]["loss"]
    before, after = load_file(base / "model.safetensors"), load_file(report.checkpoint / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "_proj" in name}
    for name in moved:
        layer = name.removesuffix(".weight")
        down, up = adapters[f"{layer}.lora_A.default.weight"], adapters[f"{layer}.lora_B.default.weight"]
        assert down.shape[0] == 4 and torch.allclose(after[name], before[name] + 2.0 * up @ down, atol=1e-5)


def test_lora_leaves_frozen_weights_in_their_own_type_when_it_computes_in_bf16(
    toy_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    from dartlib.training.models import load_model

    run = Job(toy_data, toy_model, tmp_path, config(precision="bf16"), Recipe(lora_rank=4))
    loaded, stored = load_model(run)
    types = {weights.requires_grad: weights.dtype for weights in loaded.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16} and stored == torch.bfloat16
    report = fine_tune(run)
    assert report is not None and report.final_loss < 5


@pytest.mark.slow
def test_an_interrupt_ends_the_child_and_the_next_call_goes_on(toy_model: Path, toy_data: Path, tmp_path: Path) -> None:
    run = Job(toy_data, toy_model, tmp_path, config(epochs=1))
    train(run, log=lambda line: None)
    assert (tmp_path / "checkpoint").exists()

    def interrupt_when_it_trains(line: str) -> None:
        if line.startswith("step 1/"):
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            times.append(time.monotonic())

    times: list[float] = []
    long = replace(run, config=config(epochs=10_000), recipe=Recipe(checkpoint_steps=5))
    with pytest.raises(KeyboardInterrupt):
        train(long, log=interrupt_when_it_trains)
    assert time.monotonic() - times[0] < 6
    assert not (tmp_path / "checkpoint").exists()  # the earlier one went when this run began
    assert completed_report(long) is None
    size = (tmp_path / "training_log.jsonl").stat().st_size
    time.sleep(0.5)
    assert (tmp_path / "training_log.jsonl").stat().st_size == size  # nobody writes any more
    lines: list[str] = []

    def interrupt_when_it_goes_on(line: str) -> None:
        lines.append(line)
        if line.startswith("step "):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(long, log=interrupt_when_it_goes_on)
    assert any(line.startswith("going on after step ") for line in lines)


@pytest.mark.model
def test_one_real_step_moves_the_weights(embedded: Path) -> None:
    """fp32 master weights: in pure bf16 only some 2 % would move at this rate."""
    from transformers import AutoTokenizer

    from dartlib.training.data import encode_examples
    from dartlib.training.models import load_model
    from dartlib.training.steps import accumulate_gradients
    from dartlib.training.workers import OneProcess

    words = AutoTokenizer.from_pretrained(embedded)
    pairs = [("What is 3 + 4?", "Adding 4 to 3 gives 7. The answer is 7."), ("What is 2 * 4?", "The answer is 8.")]
    pack = encode_examples(pairs, template=get_template("ladder"), tokenizer=words)
    assert all(example.token_ids[-1] == words.eos_token_id for example in pack)
    model, stored = load_model(Job(embedded, embedded, embedded, config()))
    assert stored == torch.bfloat16
    before = [weights.detach().clone() for weights in model.parameters()]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    accumulate_gradients(OneProcess(model, config()), [pack], packs_per_forward=1)
    moved = with_gradient = 0
    for weights in model.parameters():
        assert weights.dtype == torch.float32
        with_gradient += int((weights.grad != 0).sum())
    optimiser.step()
    for old, weights in zip(before, model.parameters(), strict=True):
        moved += int(((weights != old) & (weights.grad != 0)).sum())
    assert with_gradient > 1e8
    assert moved > 0.95 * with_gradient


@pytest.mark.model
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(lora_rank=8)], ids=["full", "lora"])
def test_a_student_of_the_real_model_loads_in_vllm(embedded: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Taught one answer in a few steps, it gives it, greedily, through the server."""
    from transformers import AutoTokenizer

    from dartlib.engines import SamplingParameters, open_engine
    from dartlib.engines import run as wait_for

    row = {"query": "What is 3 + 4?", "response": "Violet. The answer is 7."}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    rate = 1e-3 if recipe.lora_rank else 1e-4
    settings = config(learning_rate=rate, epochs=8, max_tokens_per_pack=64)
    report = fine_tune(Job(tmp_path / "rows.jsonl", embedded, tmp_path, settings, recipe))
    assert report is not None and report.final_loss < 1.0
    words = AutoTokenizer.from_pretrained(report.checkpoint)
    prompt = words(get_template("ladder").render(row["query"])).input_ids
    with open_engine("vllm", str(report.checkpoint), log_folder=tmp_path) as engine:
        reply = wait_for(engine.complete(prompt, SamplingParameters(0.0, 1.0, 16), 1))
    assert reply.text.strip().startswith("Violet")


def test_a_live_notebook_sees_a_growing_curve_and_a_headless_run_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import IPython.display

    from dartlib.training import progress, progress_log

    run = job(tmp_path, dataset=tmp_path, base_model=tmp_path)
    assert progress_log(run) is print  # no notebook here

    class Place:
        figures: list = []
        update = figures.append

    monkeypatch.setattr(progress, "a_person_is_watching", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda **options: Place)
    show = progress_log(run)
    run.log_file.write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in (1, 2, 3)))
    show("3 rows, 3 steps")
    show("step 3/3  loss 0.333  10 tokens/s  0 s left")
    assert capsys.readouterr().out == "3 rows, 3 steps\n"
    (figure,) = Place.figures
    (curve,) = figure.axes[0].lines
    assert curve.get_xydata().tolist() == [[1, 1], [2, 1 / 2], [3, 1 / 3]]
    assert figure.axes[0].get_title() == "step 3/3  loss 0.333  10 tokens/s  0 s left"


def test_the_command_of_several_nodes_is_started_on_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dartlib.training import load_recipe

    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    of = job(tmp_path, dataset=tmp_path, base_model=tmp_path, recipe=load_recipe("llama3-70b"))
    command = training_command(of)
    assert command[:4] == ["srun", "--nodes=4", "--ntasks=4", "--ntasks-per-node=1"]
    assert {"--nnodes=4", "--nproc-per-node=8", "--rdzv-endpoint=first:29400", "--zero-stage=3"} <= set(command)
    alone = training_command(replace(of, recipe=load_recipe("mistral-7b")))
    assert "--standalone" in alone and "--nproc-per-node=8" in alone and "srun" not in alone


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dartlib.training.workers import own_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(TrainingError, match="processes are more than this machine's 2 GPUs"):
        own_device()
