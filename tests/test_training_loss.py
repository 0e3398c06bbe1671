"""The numbers of one step: packed = unpacked, supervised-only projection = full cross-entropy, accumulation exact."""

from __future__ import annotations

import pytest
from training_toys import config, family, model, rows, tokenizer

from dartlib.queries import get_template
from dartlib.training import TrainingError

torch = pytest.importorskip("torch")

from dartlib.training.data import Example, encode_examples, plan_steps  # noqa: E402
from dartlib.training.loss import Batch, SupervisedModel, check_model, collate  # noqa: E402
from dartlib.training.steps import accumulate_gradients  # noqa: E402
from dartlib.training.workers import OneProcess  # noqa: E402

CPU = torch.device("cpu")


def examples(count: int = 12) -> list[Example]:
    pairs = [(row.query, row.response) for row in rows(count)]
    return encode_examples(pairs, template=get_template("ladder"), tokenizer=tokenizer())


def gradients(of: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weights.grad.flatten() for weights in of.parameters()])


def gradients_of(
    packs: list[list[Example]], packs_per_forward: int = 1, toy: object = None, **changes: object
) -> tuple[float, torch.Tensor]:
    worker = OneProcess(toy or model(), config(**changes))
    loss = accumulate_gradients(worker, packs, packs_per_forward=packs_per_forward)
    return loss, gradients(worker.module)


def with_mask(batch: Batch, mask: torch.Tensor) -> Batch:
    return Batch(batch.input_ids, batch.position_ids, {"attention_mask": mask}, batch.predicts, batch.targets)


def one_block(batch: Batch) -> torch.Tensor:
    return torch.ones_like(batch.attention["attention_mask"]).tril()


def _hidden_states(toy: torch.nn.Module, batch: Batch) -> torch.Tensor:
    return SupervisedModel(toy).hidden(batch)


def separate_logits(toy: torch.nn.Module, of: list[Example]) -> torch.Tensor:
    """Plain transformers, one example at a time, no mask and no positions given: (all tokens, vocabulary)."""
    return torch.cat([toy(input_ids=torch.tensor([example.token_ids])).logits[0] for example in of])


def test_packed_logits_equal_separate_passes_and_wrong_boundaries_do_not() -> None:
    toy, of = model(), examples(4)
    expected = separate_logits(toy, of)
    batch = collate([of], CPU)
    packed = toy.lm_head(_hidden_states(toy, batch))[0]
    assert torch.allclose(packed, expected, atol=1e-4)

    control = toy.lm_head(_hidden_states(toy, with_mask(batch, one_block(batch))))[0]
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
    wrong = SupervisedModel(toy)(with_mask(batch, one_block(batch))) / len(batch.targets)
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
        accumulate_gradients(OneProcess(toy, config()), packs, packs_per_forward=size)
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
    assert batch.attention["attention_mask"][0, 0].int().tolist() == [
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


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Gemma2"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_loss_and_gradients_depend_on_no_setting_of_memory(name: str, checkpointing: bool) -> None:
    """Chunks of 1, 7 or all supervised tokens, checkpointing or not, any packs per forward: the same numbers."""
    of = examples(10)
    packs = [of[:1], of[1:4], of[4:6], of[6:]]
    found = []
    for chunk, at_once in ((10_000, 1), (1, 4), (7, 2), (7, 3)):
        toy = family(name)
        toy.set_attn_implementation("eager")
        if checkpointing:
            toy.gradient_checkpointing_enable({"use_reentrant": False})
        worker = OneProcess(toy, config())
        worker.module.loss.chunk_tokens = chunk
        loss = accumulate_gradients(worker, packs, packs_per_forward=at_once)
        found.append((loss, gradients(worker.module)))
    plain = OneProcess(family(name), config())
    plain.module.model.set_attn_implementation("eager")
    accumulate_gradients(plain, packs, packs_per_forward=1)
    for loss, slope in found:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert (slope - gradients(plain.module)).norm() < 1e-5 * slope.norm()


def test_gradient_checkpointing_keeps_less_for_backward() -> None:
    def kept(checkpointing: bool) -> int:
        toy, sizes = model(num_hidden_layers=6), {}
        if checkpointing:
            toy.gradient_checkpointing_enable({"use_reentrant": False})

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            SupervisedModel(toy).hidden(collate([examples(6)], CPU)).sum()
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)


def test_no_more_than_a_chunk_of_logits_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn import functional

    sizes, linear = [], functional.linear
    monkeypatch.setattr(
        functional, "linear", lambda part, weight, bias=None: sizes.append(len(part)) or linear(part, weight, bias)
    )
    module = SupervisedModel(model(), chunk_tokens=5)
    batch = collate([examples(6)], CPU)
    module(batch).backward()
    chunks = [size for size in sizes if size != 1]  # the decoder's own have a batch of one in front
    assert sum(chunks) == len(batch.targets)  # once: nothing is projected again in backward
    assert max(chunks) == 5


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Gemma2"])
def test_the_loss_of_every_family_is_the_models_own(name: str) -> None:
    """transformers' own loss with masked labels, an example at a time: capped logits (Gemma 2) included."""
    toy, of = family(name), examples(5)
    toy.set_attn_implementation("eager")
    loss, ours = gradients_of([of], toy=toy)
    fresh = family(name)
    fresh.set_attn_implementation("eager")
    total, count = torch.zeros(()), 0
    for example in of:
        ids = torch.tensor([example.token_ids])
        labels = ids.clone()
        labels[0, : example.prompt_tokens] = -100
        total = total + fresh(input_ids=ids, labels=labels).loss * example.supervised_tokens
        count += example.supervised_tokens
    (total / count).backward()
    assert loss == pytest.approx(total.item() / count, rel=1e-5)
    assert (ours - gradients(fresh)).norm() < 1e-4 * ours.norm()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_attention_that_is_let_through_keeps_packed_examples_apart(attention: str) -> None:
    toy, of = model(attn_implementation=attention), examples(4)
    check_model(SupervisedModel(toy), CPU)
    packed = toy.lm_head(_hidden_states(toy, collate([of], CPU, attention)))[0]
    assert torch.allclose(packed, separate_logits(toy, of), atol=1e-4)


def test_a_model_whose_packed_examples_see_each_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dartlib.training import loss

    def forgetful(blocks: torch.Tensor, attention: str) -> torch.Tensor:
        return torch.ones(len(blocks), 1, blocks.shape[1], blocks.shape[1], dtype=torch.bool).tril()

    monkeypatch.setattr(loss, "_mask", forgetful)
    with pytest.raises(TrainingError, match="sdpa attention lets packed examples see each other"):
        check_model(SupervisedModel(model()), CPU)


def test_gemma_2_is_not_trained_without_the_cap_on_its_scores() -> None:
    """transformers' sdpa leaves the cap out without a word: another model would be trained."""
    toy = family("Gemma2")
    with pytest.raises(TrainingError, match="sdpa attention leaves out the score cap of gemma2: use attention: eager"):
        check_model(SupervisedModel(toy), CPU)
    toy.set_attn_implementation("eager")
    check_model(SupervisedModel(toy), CPU)


def test_models_that_scale_their_logits_are_refused() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    check_model(SupervisedModel(model()), CPU)
    check_model(SupervisedModel(model(), precision="bf16"), CPU)
    small = dict(vocab_size=33, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
    granite = GraniteForCausalLM(
        GraniteConfig(**small, num_key_value_heads=2, logits_scaling=8.0, initializer_range=0.3)
    )
    with pytest.raises(TrainingError, match="granite models change their logits"):
        check_model(SupervisedModel(granite), CPU)


def test_flash_attention_gets_the_boundaries_of_all_packs_in_one_row() -> None:
    of = examples(3)
    lengths = [len(example.token_ids) for example in of]
    batch = collate([of[:2], of[2:]], CPU, "flash_attention_2")
    ends = [0, lengths[0], lengths[0] + lengths[1], sum(lengths)]
    assert batch.attention["cu_seq_lens_q"].tolist() == batch.attention["cu_seq_lens_k"].tolist() == ends
    assert batch.attention["max_length_q"] == batch.attention["max_length_k"] == max(lengths)
    assert batch.input_ids.tolist() == [[token for example in of for token in example.token_ids]]
    assert batch.position_ids[0].tolist() == [place for length in lengths for place in range(length)]
    assert batch.targets.tolist() == collate([of], CPU).targets.tolist()
