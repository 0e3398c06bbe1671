"""Rows to packs: nothing lost, nothing split, only responses and end tokens supervised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_toys import config, rows, tokenizer, write_dataset

from dartlib.queries import get_template
from dartlib.records import SftRow, write_records
from dartlib.training import TrainingConfig, TrainingError
from dartlib.training.data import encode_examples, pack, pack_best_fit, plan_steps, read_examples


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
        (example,) = encode_examples([(row.query, row.response)], template=template, tokenizer=words)
        prompt = words(template.render(row.query)).input_ids
        response = words(row.response, add_special_tokens=False).input_ids
        assert list(example.token_ids) == prompt + response + [words.eos_token_id]
        assert example.prompt_tokens == len(prompt)
        assert example.supervised_tokens == len(response) + 1


def test_a_beginning_token_is_set_once_and_only_where_the_model_has_one() -> None:
    from tokenizers.processors import TemplateProcessing

    words = tokenizer()
    (plain,) = encode_examples([("1 + 2 ?", "3 .")], template=get_template("ladder"), tokenizer=words)
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    (begun,) = encode_examples([("1 + 2 ?", "3 .")], template=get_template("ladder"), tokenizer=words)
    assert begun.token_ids == (0, *plain.token_ids)
    assert begun.prompt_tokens == plain.prompt_tokens + 1
    assert begun.token_ids.count(words.bos_token_id) == 1


def test_rows_too_long_are_dropped_whole_and_counted(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "rows.parquet")
    everything = read_examples(path, tokenizer(), config(max_tokens_per_pack=1000))
    assert (len(everything), everything.dropped) == (12, 0)
    limit = sorted(everything.lengths)[5]
    fitting = read_examples(path, tokenizer(), config(max_tokens_per_pack=int(limit)))
    assert list(fitting) == [example for example in everything if len(example.token_ids) <= limit]
    assert 0 < fitting.dropped == 12 - len(fitting)
    kept = [row for row, length in enumerate(everything.lengths, start=1) if length <= limit]
    assert fitting.rows.tolist() == kept  # a row keeps its number in the file
    shortest = min(everything.lengths)
    with pytest.raises(
        TrainingError, match=f"all 12 rows are longer than a pack of 3 tokens, the shortest has {shortest}"
    ):
        read_examples(path, tokenizer(), config(max_tokens_per_pack=3))


def test_all_kinds_of_files_give_the_same_examples_and_need_two_columns_only(tmp_path: Path) -> None:
    texts = {"query": ["1 + 1 ?", "2 + 2 ?"], "response": ["2 .", "The answer is 4 ."]}
    pq.write_table(pa.table({**texts, "note": [1, 2]}), tmp_path / "own.parquet")
    lines = [{"query": query, "response": response} for query, response in zip(*texts.values(), strict=True)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "own.json").write_text(json.dumps(lines))
    (tmp_path / "own.csv").write_text("query,response\n1 + 1 ?,2 .\n2 + 2 ?,The answer is 4 .\n")
    found = [
        list(read_examples(tmp_path / f"own.{kind}", tokenizer(), config()))
        for kind in ("parquet", "jsonl", "json", "csv")
    ]
    assert len(found[0]) == 2
    assert found[1:] == [found[0]] * 3


def test_tokens_are_kept_and_taken_from_there_as_long_as_nothing_changed(tmp_path: Path) -> None:
    path, keep = write_dataset(tmp_path / "rows.parquet"), tmp_path / "keep"
    first = list(read_examples(path, tokenizer(), config(), folder=keep))
    (place,) = keep.iterdir()
    tokens = np.memmap(place / "tokens.bin", dtype=np.uint32, mode="r+")
    tokens[0] = 7  # a mark: whoever reads it did not tokenize again
    assert read_examples(path, tokenizer(), config(), folder=keep)[0].token_ids == (7, *first[0].token_ids[1:])
    assert list(read_examples(path, tokenizer(), config(template="qa"), folder=keep)) != first
    write_dataset(path, 11)
    assert len(read_examples(path, tokenizer(), config(), folder=keep)) == 11
    assert len(list(keep.iterdir())) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "1 + 1 ?", "response": " \n"}, "line 3: response is empty"),
        ({"query": None, "response": "2 ."}, "line 3: query is empty"),
        ({"query": "1 + 1 ?", "answer": "2 ."}, "line 3: response is missing: every row needs it"),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_column(row: dict[str, object], message: str, tmp_path: Path) -> None:
    good = {"query": "1 + 1 ?", "response": "2 ."}
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(map(json.dumps, [good, good, row, good])))
    with pytest.raises(TrainingError, match=f"bad.jsonl, {message}"):
        read_examples(path, tokenizer(), config())


def test_bad_data_is_named(tmp_path: Path) -> None:
    write_records(tmp_path / "empty.parquet", [], SftRow)
    with pytest.raises(TrainingError, match="empty.parquet: the data set has no rows"):
        read_examples(tmp_path / "empty.parquet", tokenizer(), config())
    (tmp_path / "torn.jsonl").write_text('{"query": "1 + 1 ?", "resp')
    with pytest.raises(TrainingError, match="torn.jsonl, line 1: invalid JSON"):
        read_examples(tmp_path / "torn.jsonl", tokenizer(), config())
    endless = tokenizer()
    endless.eos_token = None
    with pytest.raises(TrainingError, match="no end token"):
        read_examples(write_dataset(tmp_path / "rows.parquet"), endless, config())


@given(st.lists(st.integers(1, 30), max_size=80))
def test_best_fit_loses_nothing_overfills_nothing_and_takes_the_tightest_pack(lengths: list[int]) -> None:
    packs = pack_best_fit(lengths, 30)
    assert sorted(number for numbers in packs for number in numbers) == list(range(len(lengths)))
    assert all(0 < sum(lengths[number] for number in numbers) <= 30 for numbers in packs)
    slow: list[list[int]] = []  # the definition, by looking at every pack
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        rooms = [30 - sum(lengths[other] for other in numbers) - lengths[number] for numbers in slow]
        fitting = [room for room in rooms if room >= 0]
        if fitting:
            slow[rooms.index(min(fitting))].append(number)
        else:
            slow.append([number])
    filled = sorted(sum(lengths[number] for number in numbers) for numbers in packs)
    assert filled == sorted(sum(lengths[number] for number in numbers) for numbers in slow)


def test_best_fit_by_hand() -> None:
    assert pack_best_fit([4, 6, 5, 3, 2], 10) == [[1, 0], [2, 3, 4]]
    assert pack_best_fit([7, 5, 3, 2], 10) == [[0, 2], [1, 3]]
    assert pack_best_fit([], 10) == []


def test_best_fit_fills_packs_of_4096_to_98_percent_where_next_fit_leaves_a_tenth() -> None:
    generator = np.random.default_rng(0)  # responses of the paper's sets: 615 tokens with the prompt, a long tail
    lengths = np.clip(generator.gamma(2.4, 256, 20_000), 80, 4096).astype(int)
    shares = {}
    for packing in ("next-fit", "best-fit"):
        steps = plan_steps(lengths, config(max_tokens_per_pack=4096, packing=packing, epochs=1))
        shares[packing] = lengths.sum() / (4096 * sum(len(step.packs) for step in steps))
    assert shares["best-fit"] >= 0.98
    assert 0.85 < shares["next-fit"] < 0.95


def test_best_fit_mixes_steps_and_packs_by_epoch() -> None:
    lengths = [1 + number % 20 for number in range(400)]
    steps = plan_steps(lengths, config(max_tokens_per_pack=20, packing="best-fit", packs_per_step=8, epochs=2))
    longest_first = [max(lengths[number] for part in step.packs for number in part) for step in steps[:8]]
    assert longest_first.count(20) < 8  # not the longest examples in the first steps, the shortest in the last
    mean = [np.mean([lengths[number] for part in step.packs for number in part]) for step in steps if step.epoch == 0]
    assert max(mean[:-1]) < 2 * min(mean[:-1])
    packs = [{frozenset(part) for step in steps if step.epoch == epoch for part in step.packs} for epoch in (0, 1)]
    assert len(packs[0] & packs[1]) < 0.5 * len(packs[0])


def test_the_template_changes_the_examples(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "rows.parquet")
    wide = {"max_tokens_per_pack": 1000}
    ladder, alpaca = (
        list(read_examples(path, tokenizer(), config(template=name, **wide))) for name in ("ladder", "alpaca")
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
        ("packing", "first-fit"),
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
