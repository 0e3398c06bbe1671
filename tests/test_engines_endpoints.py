"""The endpoint client against small servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_servers import FakeServer

from dartlib.engines import Completion, EngineError, SamplingParameters, endpoints, open_engine, run

SAMPLING = SamplingParameters(0.8, 0.95, 16, ("\n\n",))
GOOD = {
    "choices": [{"text": " four", "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5, -0.25]}}],
    "usage": {"completion_tokens": 2},
}


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    servers: list[FakeServer] = []

    def make(behave: Callable[[int, dict[str, Any]], tuple[int, Any]], **options: Any) -> FakeServer:
        servers.append(FakeServer(behave, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def connect(*servers: FakeServer, **options: Any) -> endpoints.EndpointEngine:
    return run(endpoints.connect([server.url for server in servers], **options))


def ask(engine: endpoints.EndpointEngine, seed: int = 0) -> Completion:
    return run(engine.complete("2 + 2 =", SAMPLING, seed))


def test_the_request_says_all_and_the_reply_is_read(serve, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: (200, GOOD))
    with open_engine(server.url, "auto", log_folder=tmp_path) as engine:
        reply = run(engine.complete([5, 6], SAMPLING, 11))
        assert engine.weights == "served:fake"
        assert engine.slots == 64
    assert (reply.text, reply.finish_reason, reply.n_tokens, reply.logprob_sum) == (" four", "stop", 2, -0.75)
    assert server.bodies == [
        {
            "model": "fake",
            "prompt": [5, 6],
            "seed": 11,
            "temperature": 0.8,
            "top_p": 0.95,
            "max_tokens": 16,
            "stop": ["\n\n"],
        }
    ]


@pytest.mark.parametrize("tokenizes", [True, False])
def test_encode_asks_the_server_else_hands_the_text_on(serve, tokenizes: bool) -> None:  # type: ignore[no-untyped-def]
    engine = connect(serve(lambda number, body: (200, GOOD), tokenizes=tokenizes))
    assert run(engine.encode("2 + 2 =")) == ([1, 2, 3] if tokenizes else "2 + 2 =")


@pytest.mark.parametrize(
    ("status", "reply", "retryable", "says"),
    [
        (500, {"error": {"message": "boom"}}, True, "HTTP 500, boom"),
        (503, b"overloaded", True, "HTTP 503, overloaded"),
        (429, {"message": "slow down"}, True, "slow down"),
        (400, {"error": {"message": "context is\n 2048"}}, False, "HTTP 400, context is 2048"),
        (401, {"error": "no key"}, False, "no key"),
        (404, {"detail": "Not Found"}, False, "chat-only servers cannot be used"),
        (200, b"<html>", True, "not JSON"),
        (200, [1], True, "not a JSON object"),
        (200, {"choices": []}, True, "no completion: {'choices': []}"),
        (200, {"choices": [{"text": None, "finish_reason": "stop"}]}, True, "its text is None"),
        (200, {"choices": [{"text": "a", "finish_reason": None}]}, True, "no usage"),
        (200, {"error": {"message": "the GPU is gone"}}, True, "HTTP 500, the GPU is gone"),
        (200, {"error": {"message": "no credit", "code": 402}}, False, "HTTP 402, no credit"),
        (200, {"object": "error", "message": "old words"}, True, "old words"),
        (200, {"choices": [{"text": "a\ud83d", "finish_reason": "stop"}]}, True, "half a surrogate"),
        (200, b"[" * 100_000, True, "not JSON"),
        (500, {"error": {"message": "odd \udc00 words"}}, True, "odd ? words"),
        (200, {**GOOD, "choices": [{"text": "a", "finish_reason": "abort"}]}, True, "'abort'"),
        (299, json.dumps(GOOD).encode()[:40], True, "RemoteProtocolError"),
    ],
)
def test_each_fault_is_an_engine_error_of_its_kind(serve, status, reply, retryable, says) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: (status, reply))
    with pytest.raises(EngineError) as caught:
        ask(connect(server))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.retryable is retryable
    assert len(server.bodies) == 1  # one attempt per call


def test_a_hanging_server_is_a_retryable_timeout(serve) -> None:  # type: ignore[no-untyped-def]
    def hang(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(3)
        return 200, GOOD

    started = time.monotonic()
    with pytest.raises(EngineError, match="ReadTimeout") as caught:
        ask(connect(serve(hang), request_seconds=0.3))
    assert caught.value.retryable
    assert time.monotonic() - started < 2


def test_requests_go_where_fewest_are_in_flight(serve) -> None:  # type: ignore[no-untyped-def]
    def slow(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.3)
        return 200, GOOD

    servers = [serve(slow), serve(slow)]
    engine = connect(*servers)

    async def many() -> None:
        await asyncio.gather(*(engine.complete("a", SAMPLING, seed) for seed in range(8)))

    run(many())
    assert [len(server.bodies) for server in servers] == [4, 4]
    assert engine.slots == 128


def test_one_of_two_servers_dies_and_comes_back(serve) -> None:  # type: ignore[no-untyped-def]
    steady, mortal = serve(lambda number, body: (200, GOOD)), serve(lambda number, body: (200, GOOD))
    engine = connect(steady, mortal)
    mortal.stop()
    failures = 0
    for seed in range(20):
        try:
            ask(engine, seed)
        except EngineError as error:
            assert error.retryable
            failures += 1
    assert failures <= 5  # then it rests, longer each time (a busy machine sees it waken), and all goes to the other
    assert len(steady.bodies) == 20 - failures
    mortal.start()
    steady.stop()
    before = len(mortal.bodies)
    deadline = time.monotonic() + 10
    while len(mortal.bodies) == before and time.monotonic() < deadline:
        try:
            ask(engine)
        except EngineError:
            time.sleep(0.05)
    assert len(mortal.bodies) > before
    assert ask(engine).text == " four"  # it is trusted again
    steady.start()


def test_a_resting_server_is_probed_by_one_request_only(serve) -> None:  # type: ignore[no-untyped-def]
    def first_fails(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.2)
        return (500, {}) if number == 1 else (200, GOOD)

    server = serve(first_fails)
    engine = connect(server)
    with pytest.raises(EngineError):
        ask(engine)

    async def crowd() -> int:
        tasks = [asyncio.create_task(engine.complete("a", SAMPLING, seed)) for seed in range(5)]
        while len(server.bodies) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        probes = len(server.bodies) - 1
        await asyncio.gather(*tasks)
        return probes

    assert run(crowd()) == 1
    assert len(server.bodies) == 6


def test_cancelling_closes_the_connection_and_frees_the_slot(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: (time.sleep(0.5), (200, GOOD))[1])
    engine = connect(server)

    async def cancelled() -> None:
        task = asyncio.create_task(engine.complete("a", SAMPLING, 0))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert engine._endpoints[0].in_flight == 0
    assert ask(engine).text == " four"


def test_opening_refuses_what_cannot_work(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    server, other = serve(lambda number, body: (200, GOOD)), serve(lambda number, body: (200, GOOD))
    other.model = "another"
    for engine, model, says in [
        ("http://127.0.0.1:9/v1", "", "start the server or correct the address"),
        (server.url, "mine", "serves fake, not 'mine'"),
        (f"{server.url},{other.url}", "", "serve different models"),
        ("vlm", "embedded", "engine 'vlm' is unknown"),
    ]:
        with pytest.raises(EngineError, match=says), open_engine(engine, model, log_folder=tmp_path):
            pass
    monkeypatch.delenv("MY_KEY", raising=False)
    with (
        pytest.raises(EngineError, match="MY_KEY"),
        open_engine(server.url, "", log_folder=tmp_path, api_key_variable="MY_KEY"),
    ):
        pass


def test_the_key_is_read_from_the_named_variable(serve, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("MY_KEY", "secret")
    server = serve(lambda number, body: (200, GOOD))
    connect(server, api_key_variable="MY_KEY")
    assert server.headers == ["Bearer secret"]


def test_a_server_that_is_down_at_first_joins_later(serve) -> None:  # type: ignore[no-untyped-def]
    up, late = serve(lambda number, body: (200, GOOD)), serve(lambda number, body: (200, GOOD))
    late.stop()
    said: list[str] = []
    engine = connect(up, late, say=said.append)
    assert len(said) == 1
    assert "does not answer" in said[0]
    late.start()
    time.sleep(0.6)
    for seed in range(4):
        ask(engine, seed)
    assert len(late.bodies) >= 1
