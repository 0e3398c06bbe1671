"""Wrong results that users of other trainers reported in public, 2025-26, as tests of this one.

Elsewhere, under the report's name: deepspeed 7718 and 8224, accelerate 3877 (`test_training_processes.py`); verl 7401,
ms-swift 10050, Automodel 2511 (`test_training_resume.py`). Each test here was seen to fail once with the fault put in.

Cannot occur: DeepSpeed pull 7839 (gradients divided by 65,536 in its bf16 mode): that mode is not used, weights stay
fp32. ms-swift 10084 (rows of the last window dropped): there is no drop_last, and the log names the rows of each step.
open-instruct 1823 (a resume option was ignored): there is no option, what is there is gone on from or refused.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from training_toys import config, job, model, rows, tokenizer, write_dataset, write_model

from dartlib.queries import get_template
from dartlib.training import TrainingError, plan_steps, read_examples

torch = pytest.importorskip("torch")

from dartlib.training import loss as loss_module  # noqa: E402
from dartlib.training.child import fine_tune  # noqa: E402
from dartlib.training.data import Example, encode_examples, pack_best_fit  # noqa: E402
from dartlib.training.loss import SupervisedModel, check_model, collate  # noqa: E402
from dartlib.training.progress import read_log  # noqa: E402
from dartlib.training.steps import accumulate_gradients  # noqa: E402
from dartlib.training.workers import OneProcess, optimiser_for  # noqa: E402

CPU = torch.device("cpu")


def examples(count: int = 12) -> list[Example]:
    pairs = [(row.query, row.response) for row in rows(count)]
    return encode_examples(pairs, template=get_template("ladder"), tokenizer=tokenizer())


def gradient_of(packs: list[list[Example]], packs_per_forward: int = 1, chunk: int = 512) -> torch.Tensor:
    worker = OneProcess(model(), config())
    worker.module.loss.chunk_tokens = chunk
    accumulate_gradients(worker, packs, packs_per_forward=packs_per_forward)
    return torch.cat([weights.grad.flatten() for weights in worker.module.parameters()])


def test_unsloth_8261_the_gradient_norm_knows_no_accumulation_shape() -> None:
    """1 x 4, 2 x 2, 4 x 1 and all in one pack; there it was off by the number of accumulation steps."""
    of = examples(9)
    packs = [of[:1], of[1:3], of[3:7], of[7:]]
    shapes = [gradient_of(packs, size) for size in (1, 2, 4)] + [gradient_of([of])]
    for found in shapes[1:]:
        assert (found - shapes[0]).norm() < 1e-5 * shapes[0].norm()


def test_transformers_39659_the_last_short_step_weighs_as_if_it_were_alone(tmp_path: Path) -> None:
    """And no row of it is missing: 23 rows do not fill whole steps."""
    data, settings = write_dataset(tmp_path / "rows.parquet", 23), config(packs_per_step=4, epochs=1)
    found = read_examples(data, tokenizer(), settings)
    steps = plan_steps(found.lengths, settings)
    last = [[found[number] for number in numbers] for numbers in steps[-1].packs]
    assert 0 < len(last) < 4
    alone = [gradient_of([[example]]) * example.supervised_tokens for part in last for example in part]
    mean = torch.stack(alone).sum(0) / sum(example.supervised_tokens for part in last for example in part)
    assert (gradient_of(last, 3) - mean).norm() < 1e-5 * mean.norm()
    base = write_model(tmp_path / "model")
    fine_tune(job(tmp_path, dataset=data, base_model=base, packs_per_step=4, epochs=1))
    seen = [row for line in read_log(tmp_path / "training_log.jsonl") for row in line["rows"]]
    assert sorted(seen) == list(range(1, 24))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_axolotl_3796_a_mask_of_ones_does_not_pass(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed detection was switched off by an all-ones mask; here a run with such a mask does not start."""
    toy = SupervisedModel(model(attn_implementation=attention))
    check_model(toy, CPU)
    real = loss_module._mask
    monkeypatch.setattr(loss_module, "_mask", lambda blocks, kind: real(torch.ones_like(blocks), kind))
    with pytest.raises(TrainingError, match=f"{attention} attention lets packed examples see each other"):
        check_model(toy, CPU)


def test_trl_5075_best_fit_trains_on_whole_examples_only(tmp_path: Path) -> None:
    """Left-over fragments of packs came back as samples of their own; in equals out, prompt to end token."""
    settings = config(packing="best-fit", epochs=1, max_tokens_per_pack=60)
    found = read_examples(write_dataset(tmp_path / "rows.parquet", 40), tokenizer(), settings)
    trained = [found[number] for step in plan_steps(found.lengths, settings) for part in step.packs for number in part]
    assert Counter(trained) == Counter(found)
    first = tokenizer()("Question").input_ids[0]
    assert all(example.token_ids[0] == first and example.token_ids[-1] == 1 for example in trained)


def test_trl_6105_every_row_supervises_its_response_and_one_token_more() -> None:
    """A changed default made the prompt two tokens long there, and the prompt was trained on."""
    words = tokenizer()
    for row, example in zip(rows(40), examples(40), strict=True):
        assert example.supervised_tokens == len(words(row.response, add_special_tokens=False).input_ids) + 1


def test_nanochat_570_the_prompt_carries_no_loss() -> None:
    """The mask was lost in a rewrite: there is no gradient from what only the prompt would predict."""
    one, other = Example((5, 6, 7, 8, 1), 3), Example((5, 9, 7, 8, 1), 3)
    for example in (one, other):
        batch = collate([[example]], CPU)
        assert batch.predicts.int().tolist() == [[0, 0, 1, 1, 0]]
        assert batch.targets.tolist() == [8, 1]


def test_nanochat_590_rows_near_the_capacity_and_one_above_it() -> None:
    """Over-long rows clogged the best-fit buffer and the loss became NaN."""
    lengths = [1000, 999, 1000, 998, 2, 1]
    packs = pack_best_fit(lengths, 1000)
    assert sorted(sum(lengths[number] for number in numbers) for numbers in packs) == [1000, 1000, 1000, 1000]
    of = [Example((5,) * 47 + (1,), 20)] * 3 + [Example((5,) * 48 + (1,), 20)]
    fitting = [example for example in of if len(example.token_ids) <= 48]
    steps = plan_steps([48] * len(fitting), config(packing="best-fit", epochs=1))
    losses = [
        accumulate_gradients(
            OneProcess(model(), config()),
            [[fitting[number] for number in numbers] for numbers in step.packs],
            packs_per_forward=2,
        )
        for step in steps
    ]
    assert len(fitting) == 3 and all(math.isfinite(loss) for loss in losses)


def test_trl_5988_what_is_supervised_last_is_what_ends_a_generation(tmp_path: Path) -> None:
    """The end-of-turn token lay outside the mask, and models did not stop."""
    from transformers import GenerationConfig

    data, base = write_dataset(tmp_path / "rows.parquet"), write_model(tmp_path / "model")
    report = fine_tune(job(tmp_path / "out", dataset=data, base_model=base))
    assert report is not None
    settings = GenerationConfig.from_pretrained(report.checkpoint)
    for example in examples():
        assert collate([[example]], CPU).targets[-1] == settings.eos_token_id
    assert settings.pad_token_id is None


def test_areal_1292_weights_and_optimiser_are_fp32_and_nearly_every_weight_moves(tmp_path: Path) -> None:
    """AdamW's state was bf16 there. The base is stored in bf16; at 1e-5 a bf16 step rounds away for most weights."""
    from dartlib.training.models import load_model

    base = write_model(tmp_path / "model", model(initializer_range=0.1))
    run = job(tmp_path, dataset=base, base_model=base, learning_rate=1e-5, precision="bf16")
    worker = OneProcess(load_model(run)[0], run.config)
    accumulate_gradients(worker, [examples()], packs_per_forward=1)

    def moved(step) -> float:
        """The share of weights with a gradient that a step changes."""
        before = [weights.detach().clone() for weights in worker.module.parameters()]
        with_gradient = [weights.grad != 0 for weights in worker.module.parameters()]
        step()
        pairs = zip(before, worker.module.parameters(), with_gradient, strict=True)
        changed = [((old != weights) & mask).sum() for old, weights, mask in pairs]
        return float(sum(changed) / sum(mask.sum() for mask in with_gradient))

    assert moved(lambda: worker.step(1e-5)) > 0.95
    states = worker._optimiser.state_dict()["state"].values()
    assert {state["exp_avg"].dtype for state in states} == {weights.dtype for weights in worker.module.parameters()}
    assert {weights.dtype for weights in worker.module.parameters()} == {torch.float32}
    worker.module.to(torch.bfloat16)  # the fault, for comparison
    control = optimiser_for(worker.module, run.config)
    worker.module(collate([examples()], CPU)).backward()
    assert moved(control.step) < 0.5


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_automodel_3803_the_loss_is_no_mean_of_chunk_means(chunk: int) -> None:
    """Averaged per chunk, the loss was the number of chunks times too large; chunks end anywhere in a response."""
    of = examples(6)
    expected = gradient_of([of], chunk=512)
    assert (gradient_of([of], chunk=chunk) - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("border", ["", " ", "\n", "7", ":", "\u00e9"])
def test_areal_1427_tokens_that_melt_at_the_border_do_not_shift_the_mask(border: str) -> None:
    """With a tokenizer whose merges cross the border: prompt and response keep their own tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # merges cross words
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], initial_alphabet=alphabet)
    backend.train_from_iterator([f"Question: 1 + 1\nAnswer:{border}{border}7 is it"] * 20, trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    template = get_template("ladder")
    query, response = "1 + 1", f"{border}7 is it"
    (example,) = encode_examples([(query, response)], template=template, tokenizer=words)
    assert words.decode(example.token_ids[: example.prompt_tokens]) == template.render(query)
    assert words.decode(example.token_ids[example.prompt_tokens : -1]) == response
    together = words(template.render(query) + response).input_ids
    assert together != list(example.token_ids[:-1])  # in one go the border does melt here


@pytest.mark.slow
def test_unsloth_3527_twenty_steps_have_trls_losses_and_gradient_norms(tmp_path: Path) -> None:
    """The same rows in the same order through TRL's trainer: losses within 1e-4, norms within 1e-3 (relative)."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    data = write_dataset(tmp_path / "rows.parquet", 60)
    base = write_model(tmp_path / "model", model(initializer_range=0.1), dtype="float32")
    run = job(tmp_path / "out", dataset=data, base_model=base, packs_per_step=1, epochs=1, learning_rate=1e-3)
    found = read_examples(data, tokenizer(), run.config)
    steps = plan_steps(found.lengths, run.config)[:20]
    assert len(steps) == 20

    worker, ours = OneProcess(model(initializer_range=0.1), run.config), []
    for step in steps:
        packs = [[found[number] for number in numbers] for numbers in step.packs]
        part = accumulate_gradients(worker, packs, packs_per_forward=1)
        norm = torch.nn.utils.get_total_norm([weights.grad for weights in worker.module.parameters()])
        ours.append((part, float(norm)))
        worker.step(1e-3)

    order = [[number for numbers in step.packs for number in numbers] for step in steps]
    assert max(map(len, order)) > 1
    trainer = trl_trainer(trl, Dataset, tmp_path, base, found, order)
    trainer.train()
    theirs = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry]
    assert len(theirs) == 20
    assert [loss for loss, _ in theirs] == pytest.approx([loss for loss, _ in ours], abs=1e-4)
    assert [norm for _, norm in theirs] == pytest.approx([norm for _, norm in ours], rel=1e-3)


def trl_trainer(trl, dataset_type, folder: Path, base: Path, found, order: list[list[int]]):
    """TRL's SFTTrainer over the examples of each step, in order, padded, at a constant rate."""
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM

    flat = [found[number] for numbers in order for number in numbers]
    columns = {
        "input_ids": [list(example.token_ids) for example in flat],
        "labels": [
            [-100] * example.prompt_tokens + list(example.token_ids[example.prompt_tokens :]) for example in flat
        ],
    }

    class InOrder(trl.SFTTrainer):
        def get_train_dataloader(self):
            starts, batches = 0, []
            for numbers in order:
                batches.append(list(range(starts, starts + len(numbers))))
                starts += len(numbers)
            return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)

    settings = trl.SFTConfig(
        output_dir=str(folder / "trl"),
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_steps=len(order),
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=False,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=False,
        use_cpu=True,
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        completion_only_loss=True,
    )
    return InOrder(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=settings,
        train_dataset=dataset_type.from_dict(columns),
        processing_class=tokenizer(),
    )
