"""The numbers of one step: packed = unpacked, supervised-only projection = full cross-entropy, accumulation exact."""

from __future__ import annotations

import pytest
from training_toys import config, model, rows, tokenizer

from dartlib.queries import get_template
from dartlib.training import TrainingError

torch = pytest.importorskip("torch")

from dartlib.training.data import Example, encode_example, plan_steps  # noqa: E402
from dartlib.training.loss import Batch, _hidden_states, accumulate_gradients, check_projection, collate, summed_loss  # noqa: E402

CPU = torch.device("cpu")


def examples(count: int = 12) -> list[Example]:
    words, template = tokenizer(), get_template("ladder")
    return [encode_example(row.query, row.response, template=template, tokenizer=words) for row in rows(count)]


def gradients(of: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weights.grad.flatten() for weights in of.parameters()])


def gradients_of(packs: list[list[Example]], **changes: object) -> tuple[float, torch.Tensor]:
    toy = model()
    loss = accumulate_gradients(toy, packs, **{"packs_per_forward": 1, "precision": "fp32", **changes})
    return loss, gradients(toy)


def with_mask(batch: Batch, mask: torch.Tensor) -> Batch:
    return Batch(batch.input_ids, batch.position_ids, mask, batch.predicts, batch.targets)


def separate_logits(toy: torch.nn.Module, of: list[Example]) -> torch.Tensor:
    """Plain transformers, one example at a time, no mask and no positions given: (all tokens, vocabulary)."""
    return torch.cat([toy(input_ids=torch.tensor([example.token_ids])).logits[0] for example in of])


def test_packed_logits_equal_separate_passes_and_wrong_boundaries_do_not() -> None:
    toy, of = model(), examples(4)
    expected = separate_logits(toy, of)
    batch = collate([of], CPU)
    packed = toy.lm_head(_hidden_states(toy, batch))[0]
    assert torch.allclose(packed, expected, atol=1e-4)

    one_block = torch.ones_like(batch.mask).tril()
    control = toy.lm_head(_hidden_states(toy, with_mask(batch, one_block)))[0]
    first = len(of[0].token_ids)
    assert torch.allclose(control[:first], expected[:first], atol=1e-4)
    assert (control[first:] - expected[first:]).abs().amax() > 1.0  # examples that see each other differ clearly


def test_boundaries_hold_whatever_the_position_ids_say() -> None:
    """Transformers would find the blocks in restarted position ids, but not always: ours are in the mask."""
    toy, of = model(), examples(3)
    batch = collate([of], CPU)
    shifted = Batch(batch.input_ids, torch.arange(batch.input_ids.shape[1])[None], *list(vars(batch).values())[2:])
    assert torch.allclose(_hidden_states(toy, shifted), _hidden_states(toy, batch), atol=1e-4)  # RoPE is relative


def test_packed_loss_and_gradients_equal_separate_passes_and_wrong_boundaries_do_not() -> None:
    of = examples(5)
    loss, packed = gradients_of([of])
    alone_loss, alone = gradients_of([[example] for example in of])
    assert loss == pytest.approx(alone_loss, abs=1e-5)
    assert torch.allclose(packed, alone, atol=1e-5)

    toy = model()
    batch = collate([of], CPU)
    wrong = summed_loss(toy, with_mask(batch, torch.ones_like(batch.mask).tril())) / len(batch.targets)
    wrong.backward()
    assert abs(wrong.item() - loss) > 0.02
    assert (gradients(toy) - packed).norm() > 0.1 * packed.norm()


def test_supervised_only_projection_equals_plain_cross_entropy_with_masked_labels() -> None:
    of = examples(6)
    loss, ours = gradients_of([of])
    toy = model()
    total, count = torch.zeros(()), 0
    for example in of:
        labels = torch.tensor([example.token_ids])
        labels[0, : example.prompt_tokens] = -100
        logits = toy(input_ids=torch.tensor([example.token_ids])).logits
        total = total + torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
        count += int((labels != -100).sum())
    (total / count).backward()
    assert count == sum(example.supervised_tokens for example in of)
    assert loss == pytest.approx(total.item() / count, abs=1e-5)
    assert torch.allclose(ours, gradients(toy), atol=1e-5)


def test_four_packs_at_once_equal_four_packs_one_by_one() -> None:
    of = examples(10)
    packs = [of[:1], of[1:4], of[4:6], of[6:]]  # unequal lengths: a mean of means would differ
    once_loss, once = gradients_of(packs, packs_per_forward=4)
    each_loss, each = gradients_of(packs, packs_per_forward=1)
    assert once_loss == pytest.approx(each_loss, abs=1e-5)
    assert torch.allclose(once, each, atol=1e-5)
    assert abs((once - each).mean()) < 1e-7  # no drift in one direction
    means = [gradients_of([one])[0] for one in packs]
    assert abs(sum(means) / 4 - each_loss) > 1e-3  # the mean of means is another number here


def test_packs_per_forward_sets_the_number_of_forward_passes() -> None:
    packs = [[example] for example in examples(5)]
    for size, passes in ((1, 5), (2, 3), (5, 1)):
        toy, calls = model(), []
        toy.base_model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        accumulate_gradients(toy, packs, packs_per_forward=size, precision="fp32")
        assert len(calls) == passes


def test_packing_keeps_every_supervised_token_and_each_example_ends_with_the_end_token() -> None:
    of = examples(12)
    settings = config(epochs=1)
    seen: list[int] = []
    tokens = 0
    for step in plan_steps([len(example.token_ids) for example in of], settings):
        packs = [[of[number] for number in numbers] for numbers in step.packs]
        batch = collate(packs, CPU)
        tokens += sum(len(example.token_ids) for part in packs for example in part)
        assert int(batch.predicts.sum()) == len(batch.targets)
        following = torch.roll(batch.input_ids, -1, dims=1)[batch.predicts]
        assert torch.equal(following, batch.targets)  # the target is the very next token, never across a boundary
        seen += batch.targets.tolist()
        starts = [0] * sum(map(len, packs))
        assert batch.position_ids.flatten().tolist().count(0) >= len(starts)
    assert tokens == sum(len(example.token_ids) for example in of)
    assert len(seen) == sum(example.supervised_tokens for example in of)
    assert seen.count(tokenizer().eos_token_id) == len(of)
    assert all(example.token_ids[-1] == tokenizer().eos_token_id for example in of)


def test_a_literal_batch() -> None:
    batch = collate([[Example((5, 6, 7, 1), 2), Example((8, 9, 1), 1)], [Example((5, 4, 1), 1)]], CPU)
    assert batch.input_ids.tolist() == [[5, 6, 7, 1, 8, 9, 1], [5, 4, 1, 0, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 0, 0, 0, 0]]
    assert batch.predicts.int().tolist() == [[0, 1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [7, 1, 9, 1, 4, 1]
    assert batch.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1],
    ]


def test_bf16_computes_in_bf16_and_keeps_fp32_weights_and_gradients() -> None:
    packs = [examples(6)]
    exact, exact_gradients = gradients_of(packs)
    rounded, rounded_gradients = gradients_of(packs, precision="bf16")
    assert 0 < abs(rounded - exact) < 0.1
    assert rounded_gradients.dtype == torch.float32
    assert (rounded_gradients - exact_gradients).norm() < 0.1 * exact_gradients.norm()


def test_other_attention_backends_are_refused() -> None:
    with pytest.raises(TrainingError, match="needs the sdpa attention, not eager"):
        summed_loss(model(attn_implementation="eager"), collate([examples(2)], CPU))


def test_models_that_scale_their_logits_are_refused() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    check_projection(model())
    small = dict(vocab_size=33, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
    with pytest.raises(TrainingError, match="granite models change their logits"):
        check_projection(GraniteForCausalLM(GraniteConfig(**small, num_key_value_heads=2, logits_scaling=8.0)))
