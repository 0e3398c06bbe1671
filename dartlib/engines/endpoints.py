"""Client for any number of OpenAI-compatible servers: balances, rests the ones that fail, makes one attempt per call.

This is how the suite outgrows one machine: vLLM's own data and tensor parallelism, or several nodes, behind a list
of addresses. What it does not do: retry (``sampling`` does, and logs it) or speak chat (the prompt must arrive as is).
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dartlib.engines.protocol import Completion, EngineError, SamplingParameters

SLOTS_PER_ENDPOINT = 64  # for servers we know nothing about; vLLM's own default takes more, small servers fewer
REQUEST_SECONDS = 600.0  # a reply comes in one piece, so this bounds a whole request
PATIENCE_SECONDS = 120.0  # with every endpoint failing for so long, requests are given up
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.5, 30.0
_RETRYABLE_STATUS = (408, 429)  # of the 4xx


@dataclass(slots=True)
class _Endpoint:
    """One server. ``failures`` counts failures since its last success; while it is not 0, one request probes it."""

    url: str
    client: httpx.AsyncClient
    in_flight: int = 0
    failures: int = 0
    rests_until: float = 0.0
    probing: bool = False
    last_used: float = 0.0
    tokenizes: bool = False

    def is_free(self, now: float) -> bool:
        return self.failures == 0 or (now >= self.rests_until and not self.probing)

    def failed(self, now: float) -> None:
        if now >= self.rests_until:  # many requests fail at once when a server dies: that is one failure
            self.failures += 1
            self.rests_until = now + min(_LONGEST_REST_SECONDS, _FIRST_REST_SECONDS * 2 ** (self.failures - 1))


class EndpointEngine:
    """An engine over one or more servers that all serve ``model``; made by `connect`."""

    def __init__(
        self,
        endpoints: Sequence[_Endpoint],
        *,
        model: str,
        name: str = "endpoint",
        weights: str = "",
        slots: int = 0,
        logprobs: bool = False,
        cause_of_death: Callable[[], str] = str,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.name = name
        self.weights = weights or f"served:{model}"
        self.slots = slots or SLOTS_PER_ENDPOINT * len(endpoints)
        self._model, self._endpoints, self._logprobs = model, list(endpoints), logprobs
        self._cause_of_death, self._patience = cause_of_death, patience
        self._failing_since: float | None = None  # the first failure since any endpoint's last success
        self._last_failure = ""

    async def encode(self, text: str) -> Sequence[int] | str:
        """Token ids from a server's ``/tokenize`` (special tokens as its tokenizer adds them), else the text."""
        if not all(endpoint.tokenizes for endpoint in self._endpoints):
            return text
        body = {"model": self._model, "prompt": text, "add_special_tokens": True}
        reply = await self._post("tokenize", body)
        tokens = reply.get("tokens")
        if not isinstance(tokens, list):
            raise EngineError("the server's /tokenize reply holds no tokens")
        return tokens

    async def complete(self, prompt: Sequence[int] | str, sampling: SamplingParameters, seed: int) -> Completion:
        """Answer one prompt by the endpoint with the fewest requests in flight; one attempt, raises EngineError."""
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "seed": seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self._logprobs:
            body["logprobs"] = 0
        started = time.monotonic()
        reply = await self._post("v1/completions", body)
        return _read_completion(reply, time.monotonic() - started)

    async def close(self) -> None:
        """Close all connections; requests in flight are aborted."""
        for endpoint in self._endpoints:
            await endpoint.client.aclose()

    async def _post(self, route: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        endpoint = await self._choose()
        is_probe = endpoint.probing = endpoint.failures > 0
        endpoint.in_flight += 1
        endpoint.last_used = time.monotonic()
        try:
            reply = _read_reply(await endpoint.client.post(f"{endpoint.url}/{route}", json=body), endpoint.url, route)
        except EngineError as error:
            if error.retryable:
                self._note_failure(endpoint, str(error))
            else:
                self._note_success(endpoint)  # it refuses this request, so it lives
            raise
        except httpx.HTTPError as error:
            reason = f"{endpoint.url}: {type(error).__name__} {error}".strip()
            self._note_failure(endpoint, reason)
            raise EngineError(reason) from None
        finally:
            endpoint.in_flight -= 1
            if is_probe:
                endpoint.probing = False
        self._note_success(endpoint)
        return reply

    def _note_success(self, endpoint: _Endpoint) -> None:
        endpoint.failures, endpoint.rests_until = 0, 0.0
        self._failing_since = None

    def _note_failure(self, endpoint: _Endpoint, reason: str) -> None:
        now = time.monotonic()
        endpoint.failed(now)
        self._last_failure = reason
        self._failing_since = self._failing_since or now

    async def _choose(self) -> _Endpoint:
        """A rested endpoint to probe, else the free one with the fewest in flight; waits while all of them rest."""
        while True:
            now = time.monotonic()
            free = [endpoint for endpoint in self._endpoints if endpoint.is_free(now)]
            if free:
                return min(free, key=lambda one: (one.failures == 0, one.in_flight, one.last_used))
            if cause := self._cause_of_death():
                raise EngineError(cause, retryable=False)
            idle = not any(endpoint.in_flight for endpoint in self._endpoints)
            if idle and self._failing_since and now - self._failing_since > self._patience:
                raise EngineError(
                    f"no endpoint answered for {self._patience:.0f} s, last failure: {self._last_failure}",
                    retryable=False,
                )
            await asyncio.sleep(0.1)


async def connect(
    addresses: Sequence[str],
    model: str = "",
    *,
    socket: Path | None = None,
    api_key_variable: str = "",
    request_seconds: float = REQUEST_SECONDS,
    say: Callable[[str], None] = print,
    **options: Any,
) -> EndpointEngine:
    """Ask every server what it serves and return the engine over them.

    ``addresses`` are base URLs such as ``http://host:8000/v1``; ``model`` "", "auto" or "embedded" takes the name the
    servers give. ``socket`` sends everything to a Unix socket. ``api_key_variable`` is the *name* of the environment
    variable that holds the key. Other ``options`` are EndpointEngine's. Servers that are down now are probed later.

    Raises EngineError when no server answers, or they serve different models.
    """
    headers = {}
    if api_key_variable:
        if not os.environ.get(api_key_variable):
            raise EngineError(f"environment variable {api_key_variable} (the API key) is not set", retryable=False)
        headers["Authorization"] = f"Bearer {os.environ[api_key_variable]}"
    # Servers close idle connections after 5 s or more (uvicorn: 5): ours go first, or a request meets a closed one.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
    endpoints = []
    for address in addresses:
        client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(request_seconds, connect=10.0, pool=None),
            limits=limits,
            transport=None if socket is None else httpx.AsyncHTTPTransport(uds=str(socket), limits=limits),
        )
        endpoints.append(_Endpoint(url=address.rstrip("/").removesuffix("/v1"), client=client))
    try:
        wanted = "" if model in ("auto", "embedded") else model  # embedded: the default, no name was given
        served = await _agree_on_model(endpoints, wanted, say)
        return EndpointEngine(endpoints, model=served, **options)
    except BaseException:
        for endpoint in endpoints:
            await endpoint.client.aclose()
        raise


async def _agree_on_model(endpoints: Sequence[_Endpoint], wanted: str, say: Callable[[str], None]) -> str:
    served: dict[str, str] = {}
    down: list[str] = []
    for endpoint in endpoints:
        try:
            names = await _served_models(endpoint)
            endpoint.tokenizes = await _can_tokenize(endpoint, wanted or names[0])
        except (httpx.HTTPError, EngineError) as error:
            if isinstance(error, EngineError) and not error.retryable:
                raise
            down.append(f"{endpoint.url} does not answer ({type(error).__name__} {error})")
            endpoint.failed(time.monotonic())
            continue
        if wanted and wanted not in names:
            raise EngineError(f"{endpoint.url} serves {', '.join(names)}, not {wanted!r}", retryable=False)
        served[endpoint.url] = wanted or names[0]
    if not served:
        raise EngineError(f"{'; '.join(down)}: start the server or correct the address", retryable=False)
    for line in down:
        say(f"{line}; going on with the others")
    if len(set(served.values())) > 1:
        pairs = ", ".join(f"{url}: {name}" for url, name in served.items())
        raise EngineError(f"the endpoints serve different models ({pairs}); name one with the model", retryable=False)
    return next(iter(served.values()))


async def _served_models(endpoint: _Endpoint) -> list[str]:
    response = await endpoint.client.get(f"{endpoint.url}/v1/models", timeout=10.0)
    reply = _read_reply(response, endpoint.url, "v1/models")
    names = [str(entry["id"]) for entry in reply.get("data", []) if isinstance(entry, dict) and "id" in entry]
    if not names:
        raise EngineError(f"{endpoint.url}/v1/models names no model")
    return names


async def _can_tokenize(endpoint: _Endpoint, model: str) -> bool:
    response = await endpoint.client.post(
        f"{endpoint.url}/tokenize", json={"model": model, "prompt": "a"}, timeout=10.0
    )
    try:
        return isinstance(_read_reply(response, endpoint.url, "tokenize").get("tokens"), list)
    except EngineError:
        return False


def _read_reply(response: httpx.Response, url: str, route: str) -> Mapping[str, Any]:
    """The JSON object of a good reply; EngineError, with the server's own message, for any other."""
    status = response.status_code
    if status in (404, 405) and route == "v1/completions":
        raise EngineError(
            f"{url}/{route}: HTTP {status}, {_message_of(response)}; a server with the completions route is needed "
            "(chat-only servers cannot be used)",
            retryable=False,
        )
    if status != 200:
        retryable = status >= 500 or status in _RETRYABLE_STATUS
        raise EngineError(f"{url}/{route}: HTTP {status}, {_message_of(response)}", retryable=retryable)
    try:
        reply = response.json()
    except ValueError:
        raise EngineError(f"{url}/{route}: the reply is not JSON") from None
    if not isinstance(reply, dict):
        raise EngineError(f"{url}/{route}: the reply is not a JSON object")
    return reply


def _message_of(response: httpx.Response) -> str:
    """The server's own words in an error reply, shortened to one line."""
    text = response.text
    try:
        reply = response.json()
        inner = reply.get("error", reply)
        text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:300] or "no message"


def _read_completion(reply: Mapping[str, Any], seconds: float) -> Completion:
    """Check a completion reply field by field: a server's text never enters the pool unread."""
    try:
        choice = reply["choices"][0]
        text, finish_reason = choice["text"], choice["finish_reason"]
        n_tokens = int(reply["usage"]["completion_tokens"])
        logprobs = choice.get("logprobs")
        logprob_sum = math.fsum(logprobs["token_logprobs"]) if logprobs else None
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EngineError(f"the reply is no completion ({type(error).__name__} {error})") from None
    if not isinstance(text, str) or finish_reason not in ("stop", "length"):
        raise EngineError(f"the reply is no completion (finish_reason {finish_reason!r})")
    return Completion(text, finish_reason, n_tokens, logprob_sum, seconds)
