"""The dialects of OpenAI-compatible servers, one family after the other, and the ways in which replies are odd."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import SAMPLING, TEMPLATE, StubEngine, numbered_queries
from stub_servers import (
    FakeServer,
    Hosted,
    LlamaCpp,
    Ollama,
    Sent,
    StubServer,
    Tgi,
    Vllm,
    completion,
    corrupted,
    models,
)

from dartlib.engines import Completion, EngineError, SamplingParameters, dialects, endpoints, open_engine, run
from dartlib.engines.protocol import EngineBusy, checked
from dartlib.sampling import Demand, open_pool, runner, sample

STOP = SamplingParameters(0.8, 1.0, 64, ("User:", "\n\nQ:"))


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    servers: list[StubServer] = []

    def make(server: StubServer) -> Any:
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


class FourThenQuota:
    """Four fixed trials, then on to three correct ones, at most twelve trials."""

    def demand(self, query_id, prefix):
        return Demand(4, 3, 12)


def draw(pool: Path, engine, policy=None, rates=(1.0, 0.5, 0.2, 0.0), **options: Any):
    return sample(
        numbered_queries(rates),
        engine=engine,
        template=TEMPLATE,
        sampling=SamplingParameters(SAMPLING.temperature, 1.0, SAMPLING.max_tokens),
        sampling_seed=3,
        policy=policy or FourThenQuota(),
        pool_folder=pool,
        log=lambda line: None,
        **options,
    )


def rows(path: Path) -> dict[tuple[str, int], tuple[Any, ...]]:
    frame = open_pool(path).samples(columns=["query_id", "trial", "response", "finish_reason", "n_tokens", "verdict"])
    return {(row.query_id, row.trial): tuple(row)[3:] for row in frame.itertuples()}


@pytest.mark.parametrize(
    ("family", "model", "says"),
    [
        (Vllm, "auto", "model teacher, prompts as token ids, tokens as it counts them, ends as it states them"),
        (LlamaCpp, "auto", "model gguf/teacher.gguf, prompts as text, tokens as it counts them"),
        (Ollama, "teacher:latest", "model teacher:latest, prompts as text"),
        (
            Tgi,
            "auto",
            "model teacher, prompts as text, tokens as it counts them, ends as it states them, top_p left out",
        ),
    ],
)
def test_each_family_gives_what_the_stub_engine_gives_and_its_dialect_is_told_once(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family, model: str, says: str
) -> None:
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.001)
    server, said = opened(family()), []
    with open_engine(server.url, model, log_folder=tmp_path, say=said.append) as engine:
        engine.slots = 1
        report = draw(tmp_path / "pool", engine)
    alone = draw(tmp_path / "alone", StubEngine(slots=1))
    assert rows(report.pool) == rows(alone.pool) and len(rows(report.pool)) > 20
    assert [line for line in said if "model " in line] == said and len(said) == 1 and says in said[0]


@pytest.mark.slow
def test_a_hosted_service_with_limits_is_spoken_to_at_its_pace(opened, tmp_path: Path) -> None:
    """400 trials, 64 at a time, where 20 requests a second are allowed: slower, complete, nothing stuck."""

    class Hundred:
        def demand(self, query_id, prefix):
            return Demand(100, None, 100)

    server, said = opened(Hosted(limit=20)), []
    started = time.monotonic()
    with open_engine(server.url, "auto", log_folder=tmp_path, say=said.append) as engine:
        report = draw(tmp_path / "pool", engine, Hundred())
    seconds = time.monotonic() - started
    assert report.trials_new == report.trials_in_pool == 400 and report.finished == 4 and report.stuck == []
    assert server.refused < 250 and 20 <= seconds < 90, (server.refused, seconds)
    assert report.failed_requests == 1  # the one that taught us to leave the seed out; a rate limit is no failure
    assert [("seed left out" in line, "more slowly" in line) for line in said] == [(True, False), (False, True)]


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    import httpx

    def rest(**headers: str) -> float:
        with pytest.raises(EngineBusy) as caught:
            dialects.read_object(
                httpx.Response(429, headers=headers, request=httpx.Request("POST", "http://x/v1/completions")),
                b"slow down",
                answered=True,
            )
        return caught.value.seconds

    assert rest(**{"retry-after": "7"}) == 7 and rest(**{"Retry-After": "0.25"}) == 0.25
    assert 25 < rest(**{"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert rest() == rest(**{"retry-after": "soon"}) == rest(**{"retry-after": "-5"}) == 1
    assert rest(**{"retry-after": "nan"}) == 1 and rest(**{"retry-after": "9" * 30}) == 600


def test_a_rate_limit_is_waited_out_as_asked(opened) -> None:
    def behave(number: int, body: dict[str, Any]) -> Sent:
        return Sent(429, {}, {"Retry-After": "0.6"}) if number == 1 else Sent(200, completion(" 4"))

    engine = run(endpoints.connect([opened(FakeServer(behave)).url], say=lambda line: None))
    with pytest.raises(EngineBusy):
        run(engine.complete("2 + 2 =", STOP, 0))
    started = time.monotonic()
    assert run(engine.complete("2 + 2 =", STOP, 0)).text == " 4"
    assert 0.4 < time.monotonic() - started < 5


@pytest.mark.parametrize("tokens", [[], [1.5], ["a"], [-1], [True], None, {"ids": [1]}, [{"id": 1, "text": "a"}]])
def test_a_tokenize_route_that_is_empty_or_foreign_is_not_used(opened, tokens) -> None:
    server = opened(FakeServer(lambda number, body: (200, completion(" 4")), tokenizes=True))
    server.tokens = tokens
    engine = run(endpoints.connect([server.url], say=lambda line: None))
    assert run(engine.encode("2 + 2 =")) == "2 + 2 ="


def test_a_tokenize_route_that_fails_later_never_sends_an_empty_prompt(opened) -> None:
    server = opened(FakeServer(lambda number, body: (200, completion(" 4")), tokenizes=True))
    engine = run(endpoints.connect([server.url], say=lambda line: None))
    server.tokens = []
    with pytest.raises(EngineError, match="holds no tokens"):
        run(engine.encode("2 + 2 ="))
    assert server.bodies == []


def test_token_prompts_that_a_server_refuses_become_text(opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.001)

    class Half(Vllm):
        def post(self, path: str, body: dict[str, Any]) -> Sent:
            if isinstance(body["prompt"], list):
                return Sent(400, {"error": {"message": "prompt must be a string"}})
            return super().post(path, body)

    with open_engine(opened(Half()).url, "auto", log_folder=tmp_path, say=lambda line: None) as engine:
        report = draw(tmp_path / "pool", engine)
    assert report.stuck == [] and report.failed_requests == 1


@pytest.mark.parametrize(
    ("listed", "model", "says"),
    [
        (models("llama", "nomic-embed-text"), "auto", "serves llama, nomic-embed-text: name one .*MODEL"),
        (models("llama", "nomic-embed-text"), "lama", "serves llama, nomic-embed-text, not 'lama'"),
        (models(), "auto", "serves models that it does not list: name one"),
        (Sent(404, {}), "auto", "serves models that it does not list: name one"),
        (Sent(401, {"error": "no key"}), "llama", "HTTP 401, no key"),
    ],
)
def test_the_model_is_never_guessed(opened, listed: Sent, model: str, says: str) -> None:
    server = opened(FakeServer(lambda number, body: (200, completion(" 4"))))
    server.models = listed
    with pytest.raises(EngineError, match=says):
        run(endpoints.connect([server.url], model))


@pytest.mark.parametrize("listed", [Sent(404, {}), Sent(200, [{"id": "x"}]), Sent(200, b"<html>"), models()])
def test_without_a_list_of_models_the_named_one_is_asked(opened, listed: Sent) -> None:
    server = opened(FakeServer(lambda number, body: (200, completion(" 4"))))
    server.models = listed
    engine = run(endpoints.connect([server.url], "llama", say=lambda line: None))
    assert run(engine.complete("2 + 2 =", STOP, 0)).text == " 4" and server.bodies[0]["model"] == "llama"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ({"usage": None}, ("stop", 1)),  # " 12 3" is 5 bytes: two tokens of 4
        ({"finish_reason": None}, ("stop", 5)),
        ({"finish_reason": None, "tokens": 64}, ("length", 64)),
        ({"finish_reason": "EOS"}, ("stop", 5)),
        ({"finish_reason": "eos_token"}, ("stop", 5)),
        ({"finish_reason": "MAX_TOKENS"}, ("length", 5)),
        ({"tokens": 10**30}, ("stop", 1)),
        ({"tokens": -4}, ("stop", 1)),
        ({"tokens": "5"}, ("stop", 1)),
        ({"tokens": True}, ("stop", 1)),
    ],
)
def test_what_a_reply_leaves_out_or_spells_otherwise_is_done_without(opened, missing, expected) -> None:
    reply = completion(" 12", missing.get("finish_reason", "stop"), missing.get("tokens", 5))
    if "usage" in missing:
        del reply["usage"]
    if reply["choices"][0]["finish_reason"] is None and "tokens" not in missing:
        del reply["choices"][0]["finish_reason"]
    server, said = opened(FakeServer(lambda number, body: (200, reply))), []
    found = run(run_connected(server, said).complete("2 + 2 =", STOP, 0))
    assert (found.finish_reason, found.n_tokens) == expected
    assert ("tokens estimated" in said[0]) == (expected[1] == 1)
    assert ("ends told by the number of tokens" in said[0]) == (missing.get("finish_reason", "stop") is None)


def run_connected(server: StubServer, said: list[str]) -> endpoints.EndpointEngine:
    return run(endpoints.connect([server.url], say=said.append))


def test_a_stream_nobody_asked_for_is_read_and_not_waited_for(opened) -> None:
    """Also when the server keeps the connection open behind [DONE]; one that breaks off is no reply."""
    reply = completion(" The answer is 4.\u2028", "stop", 7)
    server = opened(FakeServer(lambda number, body: corrupted("stream", reply, 0)))
    started = time.monotonic()
    found = run(run_connected(server, []).complete("2 + 2 =", STOP, 0))
    assert (found.text, found.finish_reason, found.n_tokens) == (" The answer is 4.\u2028", "stop", 7)
    assert time.monotonic() - started < 5
    broken = b'data: {"choices": [{"text": " The ans", "finish_reason": null}]}\n\n'
    cut = opened(FakeServer(lambda number, body: Sent(200, broken, {"Content-Type": "text/event-stream"})))
    with pytest.raises(EngineError, match="not JSON"):
        run(run_connected(cut, []).complete("2 + 2 =", STOP, 0))
    chat = b'data: {"choices": [{"delta": {"content": "4"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    chatty = opened(FakeServer(lambda number, body: Sent(200, chat)))
    with pytest.raises(EngineError, match="not JSON: data: .*delta"):
        run(run_connected(chatty, []).complete("2 + 2 =", STOP, 0))
    late = b'data: {"choices": [{"text": " The"}]}\n\ndata: {"error": {"message": "GPU gone", "code": 503}}\n\n'
    failing = opened(FakeServer(lambda number, body: Sent(200, late)))
    with pytest.raises(EngineError, match="HTTP 503, GPU gone"):
        run(run_connected(failing, []).complete("2 + 2 =", STOP, 0))


@pytest.mark.parametrize(
    ("address", "base", "tokenize"),
    [
        ("http://host:8000", "http://host:8000/v1", "http://host:8000/tokenize"),
        ("http://host:8000/v1/", "http://host:8000/v1", "http://host:8000/tokenize"),
        ("https://host/v2", "https://host/v2", "https://host/tokenize"),
        ("https://host/openai/v1", "https://host/openai/v1", "https://host/openai/tokenize"),
        ("https://host/v1beta/openai/", "https://host/v1beta/openai", "https://host/v1beta/openai/tokenize"),
        ("http://host/v1/completions", "http://host/v1", "http://host/tokenize"),
        ("http://host/api/v1/chat/completions/", "http://host/api/v1", "http://host/api/tokenize"),
        ("http://host/llm", "http://host/llm/v1", "http://host/llm/tokenize"),
        ("http://host/v1/chat", "http://host/v1", "http://host/tokenize"),
    ],
)
def test_addresses_as_people_write_them(address: str, base: str, tokenize: str) -> None:
    assert dialects.api_base(address) == base and dialects.tokenize_url(base) == tokenize


@pytest.mark.parametrize(
    "address", ["http://host:port/v1", "http://host/v1?api-version=2", "http:///v1", "http://me:secret@host/v1"]
)
def test_an_address_that_cannot_work_says_what_to_write(address: str) -> None:
    with pytest.raises(EngineError, match="write http://host:port/v1") as caught:
        dialects.api_base(address)
    assert "secret" not in str(caught.value)


def test_a_whole_route_or_another_version_reaches_the_server(opened, tmp_path: Path) -> None:
    server = opened(Hosted())
    with open_engine(f"{server.url}/completions", "auto", log_folder=tmp_path, say=lambda line: None) as engine:
        with pytest.raises(EngineError, match="seed: Extra inputs"):
            run(engine.complete("Q: number 1 rate 1.0\nA:", STOP, 0))
        assert "answer is 7" in run(engine.complete("Q: number 1 rate 1.0\nA:", STOP, 0)).text
    assert set(server.paths) == {"/openai/v1/models", "/openai/tokenize", "/openai/v1/completions"}


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(opened, monkeypatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    server = opened(FakeServer(lambda number, body: (200, completion(" 4"))))
    for host in ("127.0.0.1", "localhost"):
        engine = run(endpoints.connect([f"http://{host}:{server.port}/v1"], say=lambda line: None))
        assert run(engine.complete("2 + 2 =", STOP, 0)).text == " 4"
    assert not dialects.is_this_machine("http://128.0.0.1/v1") and dialects.is_this_machine("http://[::1]:8000/v1")


OWN = "2 + 3 = 5. The answer is \\boxed{5}."


@pytest.mark.parametrize(
    ("text", "said", "kept", "reason"),
    [
        (f"{OWN}\n\nUser: What is 2 + 2?\n\nAssistant: \\boxed{{4}}", "stop", f"{OWN}\n\n", "stop"),
        (f"{OWN}\n\nUser: What is 2 + 2?", "length", f"{OWN}\n\n", "stop"),
        (f"{OWN}\n\nUse", "stop", f"{OWN}\n\n", "stop"),
        (f"{OWN}\n\nQ", "stop", OWN, "stop"),
        (f"{OWN}\n\nUse", "length", f"{OWN}\n\nUse", "length"),  # cut by length, it may have been another word
        ("The point is U", "stop", "The point is U", "stop"),  # one letter may be the answer
        ("It is MUser", "stop", "It is MUser", "stop"),
        (f"{OWN}\n\n", "stop", f"{OWN}\n\n", "stop"),
        (f"{OWN}<|im_end|>", "stop", OWN, "stop"),
        (f"{OWN} </s>", "length", f"{OWN} ", "stop"),
        (f"{OWN}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2 + 2? \\boxed{{4}}", "length", OWN, "stop"),
        (f"{OWN}<｜end▁of▁sentence｜>", "stop", OWN, "stop"),
        (f"{OWN} <|reserved_7|><pad>\n", "stop", OWN, "stop"),
        (
            "<|begin_of_thought|> 5 <|end_of_thought|> is 5",
            "stop",
            "<|begin_of_thought|> 5 <|end_of_thought|> is 5",
            "stop",
        ),
        ("a < |x| > b and <|x|> = 2", "stop", "a < |x| > b and <|x|> = 2", "stop"),
        ("", "stop", "", "stop"),
    ],
)
def test_a_text_ends_where_it_had_to_whatever_the_server_left_in(opened, text, said, kept, reason) -> None:
    server = opened(FakeServer(lambda number, body: (200, completion(text, said, 20))))
    found = run(run_connected(server, []).complete("2 + 3 =", STOP, 0))
    assert (found.text, found.finish_reason) == (kept, reason)
    assert found.n_tokens == 20  # what was generated and paid for, also what was cut


@given(st.text("ab\n:", max_size=30), st.lists(st.text("ab\n:", min_size=1, max_size=4), max_size=3))
def test_no_stop_string_is_left_and_nothing_else_is_lost(text: str, stop: list[str]) -> None:
    for reason in ("stop", "length"):
        found = checked(Completion(text, reason, 9, -1.0, 0.0), stop)
        assert not any(one in found.text for one in stop)
        rest = text[len(found.text) :]
        assert text.startswith(found.text)
        if rest:
            assert any(one.startswith(rest) or rest.startswith(one) for one in stop)
            assert (found.finish_reason, found.logprob_sum) == ("stop", None)
        else:
            assert found == Completion(text, reason, 9, -1.0, 0.0)
        if reason == "length" and not any(one in text for one in stop):
            assert found.text == text
