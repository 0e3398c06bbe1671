"""One contract for all engines, on the embedded model: vLLM as a child, the same server as an endpoint, local."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dartlib.engines import Completion, Engine, EngineError, SamplingParameters, endpoints, open_engine, run
from dartlib.queries import get_template

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

TEMPLATE = get_template("ladder-fewshot")
WARM = SamplingParameters(1.0, 0.95, 48, TEMPLATE.stop)
QUERIES = [f"What is {left} * {right}?" for left in range(2, 4) for right in range(2, 6)]


@pytest.fixture(scope="module")
def vllm(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    with open_engine("vllm", str(embedded), log_folder=tmp_path_factory.mktemp("vllm")) as engine:
        yield engine


@pytest.fixture(scope="module")
def endpoint(vllm: Engine) -> Iterator[Engine]:
    """The client as it meets a server it did not start: it asks for the model's name and gets no log-probabilities."""
    assert isinstance(vllm, endpoints.EndpointEngine)
    transport = vllm._endpoints[0].client._transport
    socket = Path(transport._pool._uds)  # type: ignore[attr-defined]
    engine = run(endpoints.connect(["http://server/v1"], "auto", socket=socket))
    yield engine
    run(engine.close())


@pytest.fixture(scope="module")
def local(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine("local", str(embedded), log_folder=tmp_path_factory.mktemp("local")) as engine:
        yield engine


@pytest.fixture(params=["vllm", "endpoint", "local"])
def engine(request: pytest.FixtureRequest) -> Engine:
    opened: Engine = request.getfixturevalue(request.param)
    return opened


def prompt_of(engine: Engine, query: str) -> Sequence[int] | str:
    return run(engine.encode(TEMPLATE.render(query)))


def ask(engine: Engine, query: str = QUERIES[5], sampling: SamplingParameters = WARM, seed: int = 0) -> Completion:
    return run(engine.complete(prompt_of(engine, query), sampling, seed))


def test_one_request_sent_alone_twice_gives_the_same_text(engine: Engine) -> None:
    first, second = ask(engine, seed=3), ask(engine, seed=3)
    assert first.text == second.text
    assert (first.finish_reason, first.n_tokens) == (second.finish_reason, second.n_tokens)


def test_two_trials_differ(engine: Engine) -> None:
    hot = SamplingParameters(1.0, 1.0, 32)
    assert len({ask(engine, sampling=hot, seed=seed).text for seed in range(4)}) >= 3


def test_stop_strings_end_a_text_and_are_not_in_it(engine: Engine) -> None:
    greedy = SamplingParameters(0.0, 1.0, 40)
    free = ask(engine, sampling=greedy)
    stopped = ask(engine, sampling=SamplingParameters(0.0, 1.0, 40, ("answer",)))
    assert "answer" in free.text
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.index("answer")]


def test_length_is_told_from_stop_and_max_tokens_holds(engine: Engine) -> None:
    cut = ask(engine, sampling=SamplingParameters(0.0, 1.0, 3))
    assert (cut.finish_reason, cut.n_tokens) == ("length", 3)
    whole = ask(engine, sampling=SamplingParameters(0.0, 1.0, 60, TEMPLATE.stop))
    assert whole.finish_reason == "stop"
    assert whole.n_tokens < 60
    assert TEMPLATE.stop[0] not in whole.text


def test_the_prompt_is_encoded_once_without_a_second_bos(engine: Engine, embedded: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded)
    assert list(run(engine.encode("Two words"))) == tokenizer("Two words")["input_ids"]
    assert tokenizer.bos_token_id not in run(engine.encode("Two words"))  # this model wants none


def test_greedy_ignores_the_seed(engine: Engine) -> None:
    greedy = SamplingParameters(0.0, 1.0, 24)
    assert ask(engine, sampling=greedy, seed=1).text == ask(engine, sampling=greedy, seed=2).text


def test_logprobs_are_sums_over_the_new_tokens_where_reported(engine: Engine) -> None:
    reply = ask(engine)
    if reply.logprob_sum is None:
        assert engine.name == "endpoint"
    else:
        assert -20.0 * reply.n_tokens < reply.logprob_sum < 0.0


def test_a_prompt_that_cannot_fit_is_refused_for_good(engine: Engine) -> None:
    with pytest.raises(EngineError) as caught:
        run(engine.complete([100] * 9000, WARM, 0))
    assert not caught.value.retryable
    assert "\n" not in str(caught.value)


def test_a_cancelled_request_is_aborted(engine: Engine) -> None:
    long = SamplingParameters(1.0, 1.0, 1500)

    async def cancel_soon() -> None:
        tasks = [asyncio.create_task(engine.complete(prompt, long, seed)) for seed in range(8)]
        await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        # At temperature 1 an answer or two may end by itself within the second.
        assert sum(isinstance(end, asyncio.CancelledError) for end in ends) >= 4
        assert all(isinstance(end, asyncio.CancelledError | Completion) for end in ends)

    prompt = prompt_of(engine, QUERIES[0])
    run(cancel_soon())
    started = time.monotonic()
    ask(engine, sampling=SamplingParameters(0.0, 1.0, 4))
    assert time.monotonic() - started < 10  # the engine is not busy with what nobody waits for


def test_share_of_texts_equal_under_concurrency_is_reported(
    engine: Engine, record_property: Callable[[str, object], None]
) -> None:
    alone = [ask(engine, query, seed=7).text for query in QUERIES]
    prompts = [prompt_of(engine, query) for query in QUERIES]
    order = random.Random(0).sample(range(len(QUERIES)), len(QUERIES))

    async def together() -> list[Completion]:
        return await asyncio.gather(*(engine.complete(prompts[index], WARM, 7) for index in order))

    crowd = dict(zip(order, run(together()), strict=True))
    share = sum(crowd[index].text == text for index, text in enumerate(alone)) / len(alone)
    record_property("share_equal_under_concurrency", share)
    print(f"\n{engine.name}: {share:.2f} of {len(alone)} texts equal to those sent alone")
    assert 0.0 <= share <= 1.0


def test_kill_9_of_a_process_with_a_running_server_leaves_nothing(embedded: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dartlib.engines import open_engine\n"
        "with open_engine('vllm', sys.argv[1], log_folder=Path(sys.argv[2])):\n"
        "    print('open', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(embedded), str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    while parent.stdout.readline() not in (b"open\n", b""):
        pass
    family = descendants_of(parent.pid)
    assert len(family) >= 3  # supervisor, server, engine core
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while (left := [pid for pid in family if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def descendants_of(root: int) -> list[int]:
    import psutil

    return [process.pid for process in psutil.Process(root).children(recursive=True)]
