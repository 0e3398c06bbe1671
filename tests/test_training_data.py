"""Rows to packs: nothing lost, nothing split, only responses and end tokens supervised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_toys import config, rows, tokenizer, write_dataset

from dartlib.queries import get_template
from dartlib.records import RecordError, SftRow, write_records
from dartlib.training import TrainingConfig, TrainingError
from dartlib.training.data import encode_example, pack, plan_steps, read_examples


def test_importing_the_room_loads_no_torch() -> None:
    heavy = "torch", "transformers", "datasets", "vllm", "sympy", "trl", "deepspeed"
    code = f"import sys, dartlib.training; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("lengths", "limit", "packs"),
    [
        ([], 10, []),
        ([10], 10, [[0]]),
        ([4, 6, 1], 10, [[0, 1], [2]]),
        ([6, 5, 4, 3], 10, [[0], [1, 2], [3]]),  # consecutive: 3 does not go back into the first pack
        ([1, 1, 1], 1, [[0], [1], [2]]),
    ],
)
def test_packs_are_filled_in_order(lengths: list[int], limit: int, packs: list[list[int]]) -> None:
    assert pack(lengths, limit) == packs


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 3))
def test_every_epoch_holds_every_example_once(lengths: list[int], packs_per_step: int, seed: int) -> None:
    steps = plan_steps(lengths, config(max_tokens_per_pack=20, packs_per_step=packs_per_step, seed=seed, epochs=3))
    for epoch in range(3):
        packs = [examples for step in steps if step.epoch == epoch for examples in step.packs]
        assert sorted(number for examples in packs for number in examples) == list(range(len(lengths)))
        assert all(0 < sum(lengths[number] for number in examples) <= 20 for examples in packs)
        assert all(1 <= len(step.packs) <= packs_per_step for step in steps)


def test_examples_are_shuffled_anew_in_every_epoch_before_packing() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        steps = plan_steps([5] * 40, config(max_tokens_per_pack=20, seed=seed, epochs=2))
        return [number for step in steps if step.epoch == epoch for examples in step.packs for number in examples]

    first = order(1, 0)
    assert first == order(1, 0)
    assert len({tuple(part) for part in (list(range(40)), first, order(1, 1), order(2, 0))}) == 4
    # Packs mix anew: were packs shuffled and not examples, neighbours would stay neighbours.
    pairs = [{frozenset(order(1, epoch)[i : i + 2]) for i in range(0, 40, 2)} for epoch in (0, 1)]
    assert len(pairs[0] & pairs[1]) < 5


def test_the_prompt_is_tokenized_as_for_sampling_and_the_end_token_is_supervised() -> None:
    words, template = tokenizer(), get_template("ladder")
    for row in rows():
        example = encode_example(row.query, row.response, template=template, tokenizer=words)
        prompt = words(template.render(row.query)).input_ids
        response = words(row.response, add_special_tokens=False).input_ids
        assert list(example.token_ids) == prompt + response + [words.eos_token_id]
        assert example.prompt_tokens == len(prompt)
        assert example.supervised_tokens == len(response) + 1


def test_a_beginning_token_is_set_once_and_only_where_the_model_has_one() -> None:
    from tokenizers.processors import TemplateProcessing

    words = tokenizer()
    plain = encode_example("1 + 2 ?", "3 .", template=get_template("ladder"), tokenizer=words)
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    begun = encode_example("1 + 2 ?", "3 .", template=get_template("ladder"), tokenizer=words)
    assert begun.token_ids == (0, *plain.token_ids)
    assert begun.prompt_tokens == plain.prompt_tokens + 1
    assert begun.token_ids.count(words.bos_token_id) == 1


def test_rows_too_long_are_dropped_whole_and_counted(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "rows.parquet")
    everything, none = read_examples(path, tokenizer(), config(max_tokens_per_pack=1000))
    assert (len(everything), none) == (12, 0)
    limit = sorted(len(example.token_ids) for example in everything)[5]
    fitting, dropped = read_examples(path, tokenizer(), config(max_tokens_per_pack=limit))
    assert fitting == [example for example in everything if len(example.token_ids) <= limit]
    assert 0 < dropped == 12 - len(fitting)
    with pytest.raises(TrainingError, match="all 12 rows are longer than a pack of 3 tokens"):
        read_examples(path, tokenizer(), config(max_tokens_per_pack=3))


def test_only_the_two_published_columns_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({"query": ["1 + 1 ?"], "response": ["2 ."], "note": [1]}), path)
    assert len(read_examples(path, tokenizer(), config())[0]) == 1


def test_bad_data_is_named(tmp_path: Path) -> None:
    def read(rows_of: list[SftRow]) -> None:
        write_records(tmp_path / "bad.parquet", rows_of, SftRow)
        read_examples(tmp_path / "bad.parquet", tokenizer(), config())

    with pytest.raises(TrainingError, match="bad.parquet: the data set has no rows"):
        read([])
    blank = SftRow("1 + 1 ?", " \n", "q", 0, "toy", 1, 0.5, "vrt")
    with pytest.raises(TrainingError, match="bad.parquet: row 3 has an empty response"):
        read([*rows(3), blank])
    pq.write_table(pa.table({"query": ["1 + 1 ?"], "answer": ["2 ."]}), tmp_path / "other.parquet")
    with pytest.raises(RecordError, match="column 'response' is missing"):
        read_examples(tmp_path / "other.parquet", tokenizer(), config())
    endless = tokenizer()
    endless.eos_token = None
    with pytest.raises(TrainingError, match="no end token"):
        read_examples(write_dataset(tmp_path / "rows.parquet"), endless, config())


def test_the_template_changes_the_examples(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "rows.parquet")
    wide = {"max_tokens_per_pack": 1000}
    ladder, alpaca = (
        read_examples(path, tokenizer(), config(template=name, **wide))[0] for name in ("ladder", "alpaca")
    )
    assert all(a.token_ids != b.token_ids for a, b in zip(ladder, alpaca, strict=True))
    assert all(a.supervised_tokens == b.supervised_tokens for a, b in zip(ladder, alpaca, strict=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("template", "unheard-of"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("epochs", 0),
        ("max_tokens_per_pack", 0),
        ("packs_per_step", 0),
        ("packs_per_forward", -1),
        ("warmup_ratio", 1.0),
        ("weight_decay", -0.1),
        ("max_gradient_norm", 0.0),
        ("precision", "fp16"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field.replace("template", "prompt template")):
        config(**{field: value})


def test_the_defaults_are_the_papers() -> None:
    assert {name: getattr(TrainingConfig, name) for name in ("warmup_ratio", "weight_decay")} == {
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
    }
