"""The local engine's own parts, on hand-made distributions and a tiny random model."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartlib.engines import Completion, EngineError, SamplingParameters, run

pytestmark = pytest.mark.slow  # loads torch and transformers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights; the tokenizer knows w0 … w95 and puts <s> before every text."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2} | {f"w{number}": number + 3 for number in range(96)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
    )
    config.initializer_range = 0.5  # sharp enough that greedy texts differ between prompts
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from dartlib.engines import open_engine

    with open_engine("local", str(tiny), log_folder=tmp_path_factory.mktemp("log")) as opened:
        yield opened


def ask(engine, prompts, sampling, seeds) -> list[Completion]:  # type: ignore[no-untyped-def]
    async def together() -> list[Completion]:
        return await asyncio.gather(
            *(engine.complete(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        )

    return run(together())


def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass() -> None:
    import torch

    from dartlib.engines.local import sample_nucleus

    # tokens 0..3 with probabilities .1 .5 .1 .3; the best two hold .8, so a nucleus of .7 is {1, 3}: 1 below 5/8
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.1, 0.3]])).repeat(6, 1)
    nucleus = torch.tensor([0.7, 0.7, 0.7, 0.7, 0.0, 0.4])
    numbers = torch.tensor([0.0, 0.62, 0.63, 0.999999, 0.9, 0.9])
    assert sample_nucleus(logits, nucleus, numbers).tolist() == [1, 1, 3, 3, 1, 1]


def test_draws_follow_the_distribution_also_in_a_wide_vocabulary() -> None:
    import torch

    from dartlib.engines.local import sample_nucleus

    # 1,000 equal tokens: the nucleus is wider than the first look of 256 candidates
    draws = 20_000
    numbers = torch.rand(draws, generator=torch.Generator().manual_seed(1))
    chosen = sample_nucleus(torch.zeros(1, 1000).repeat(draws, 1), torch.ones(draws), numbers)
    counts = torch.bincount(chosen, minlength=1000).float()
    expected = draws / 1000
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - 999) < 5 * (2 * 999) ** 0.5


def test_greedy_texts_and_logprobs_equal_plain_generate(tiny: Path, engine) -> None:  # type: ignore[no-untyped-def]
    """Prompts of many lengths in one batch (padding, shared prefix) against transformers, one by one."""
    import torch
    from transformers import AutoModelForCausalLM

    prompts = [[0, 5, 6, *range(10, 10 + extra)] for extra in (0, 1, 5, 9)] + [[0, 90]]
    replies = ask(engine, prompts, SamplingParameters(0.0, 1.0, 12), range(5))
    model = AutoModelForCausalLM.from_pretrained(tiny)
    for prompt, reply in zip(prompts, replies, strict=True):
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=12,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        new = output.sequences[0, len(prompt) :].tolist()
        scores = [float(step.log_softmax(-1)[0, token]) for step, token in zip(output.scores, new, strict=True)]
        assert reply.text.split() == [f"w{token - 3}" for token in new if token > 2]
        assert reply.n_tokens == len(new)
        assert reply.logprob_sum == pytest.approx(sum(scores), abs=1e-3)


def test_the_seed_decides_the_text_whoever_shares_the_batch(engine) -> None:  # type: ignore[no-untyped-def]
    sampling = SamplingParameters(1.0, 0.95, 16)
    alone = ask(engine, [[0, 5, 6]], sampling, [7])[0]
    crowd = ask(engine, [[0, 5, 6]] * 20 + [[0, 8]] * 12, sampling, range(32))
    assert crowd[7].text == alone.text
    assert len({reply.text for reply in crowd[:20]}) > 10


def test_stop_strings_end_the_text_and_are_not_in_it(engine) -> None:  # type: ignore[no-untyped-def]
    free = ask(engine, [[0, 5, 6]], SamplingParameters(0.0, 1.0, 12), [0])[0]
    assert free.finish_reason == "length"
    words = free.text.split()
    stopped = ask(engine, [[0, 5, 6]], SamplingParameters(0.0, 1.0, 12, (words[2],)), [0])[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.index(words[2])]
    assert stopped.n_tokens < free.n_tokens


def test_a_stop_string_that_is_a_special_token_ends_the_reply(tiny: Path, engine, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """An end-of-turn mark of a chat template, which the model's settings need not name, leaves no trace in the text."""
    from transformers import AutoTokenizer

    from dartlib.engines import open_engine

    words = ask(engine, [[0, 5, 6]], SamplingParameters(0.0, 1.0, 12), [0])[0].text.split()
    chat = shutil.copytree(tiny, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.add_special_tokens({"additional_special_tokens": [words[2]]})
    tokenizer.save_pretrained(chat)
    with open_engine("local", str(chat), log_folder=tmp_path) as opened:
        reply = ask(opened, [[0, 5, 6]], SamplingParameters(0.0, 1.0, 12, (words[2],)), [0])[0]
    assert (reply.text.split(), reply.finish_reason, reply.n_tokens) == (words[:2], "stop", 3)


def test_exactly_one_bos(engine) -> None:  # type: ignore[no-untyped-def]
    ids = run(engine.encode("w1 w2"))
    assert ids == [0, 4, 5]
    text = ask(engine, ["w1 w2"], SamplingParameters(0.0, 1.0, 8), [0])[0].text
    assert text == ask(engine, [ids], SamplingParameters(0.0, 1.0, 8), [0])[0].text


def test_a_prompt_beyond_the_context_is_refused_for_good(engine) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match="do not fit the model's context of 128") as caught:
        run(engine.complete([0] * 120, SamplingParameters(0.0, 1.0, 9), 0))
    assert not caught.value.retryable


def test_cancelled_requests_leave_and_others_go_on(engine) -> None:  # type: ignore[no-untyped-def]
    async def cancel_one() -> Completion:
        sampling = SamplingParameters(1.0, 1.0, 100)
        first, second = (asyncio.create_task(engine.complete([0, 5], sampling, seed)) for seed in (1, 2))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert run(cancel_one()).n_tokens > 0


def test_a_closed_engine_refuses(tiny: Path, tmp_path: Path) -> None:
    from dartlib.engines import open_engine

    with open_engine("local", str(tiny), log_folder=tmp_path) as opened:
        run(opened.close())
        run(opened.close())
        with pytest.raises(EngineError, match="closed"):
            run(opened.complete([0, 5], SamplingParameters(0.0, 1.0, 4), 0))


def test_a_model_that_always_fails_is_told_over_all_queries(tiny: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from stub_engine import SAMPLING, TEMPLATE, numbered_queries

    from dartlib.engines import open_engine
    from dartlib.sampling import Demand, SamplingError, guards, sample

    class Once:
        def demand(self, query_id, prefix):  # type: ignore[no-untyped-def]
            return Demand(1, None, 1)

    def break_down(batch) -> None:  # type: ignore[no-untyped-def]
        raise RuntimeError("out of memory")

    monkeypatch.setattr(guards, "FIRST_PATIENCE_SECONDS", 1.0)
    with open_engine("local", str(tiny), log_folder=tmp_path) as opened:
        monkeypatch.setattr(opened, "_run", break_down)
        with pytest.raises(SamplingError, match="no usable reply .* RuntimeError: out of memory"):
            sample(
                numbered_queries([0.5] * 30),
                engine=opened,
                template=TEMPLATE,
                sampling=SAMPLING,
                sampling_seed=1,
                policy=Once(),
                pool_folder=tmp_path / "pool",
                log=lambda line: None,
            )
