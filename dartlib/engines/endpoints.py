"""Client for any number of OpenAI-compatible servers: balances, paces, rests the ones that fail, one attempt per call.

This is how the suite outgrows one machine: vLLM's own data and tensor parallelism, or several nodes, behind a list
of addresses. What it does not do: retry (``sampling`` does, and logs it) or speak chat (the prompt must arrive as is).
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dartlib.engines import dialects
from dartlib.engines.protocol import Completion, EngineBusy, EngineError, EngineLost, SamplingParameters, checked

SLOTS_PER_ENDPOINT = 64  # for servers we know nothing about; vLLM's own default takes more, small servers fewer
REQUEST_SECONDS = 600.0  # a reply comes in one piece, so this bounds a whole request
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.5, 5.0
# A rate limit makes the pace this much slower, each good reply a little faster: together they settle near the limit.
_SLOWER, _FASTER = 1.3, 0.985
_LONGEST_INTERVAL = 60.0


@dataclass(slots=True)
class _Endpoint:
    """One server. ``failures`` counts failures since its last success; while it is not 0, one request probes it.

    What its replies have shown: whether it ``tokenizes``, has ``answered`` at all, and which fields it refuses
    (``left_out``). ``interval``: seconds between two requests, its pace.
    """

    url: str  # of the API, with its version
    client: httpx.AsyncClient
    in_flight: int = 0
    failures: int = 0
    rests_until: float = 0.0
    probing: bool = False
    last_used: float = 0.0
    tokenizes: bool = False
    answered: bool = False
    left_out: set[str] = field(default_factory=set)
    interval: float = 0.0
    next_at: float = 0.0
    slowed_at: float = -math.inf

    def free_at(self) -> float:
        """When the next request may be sent; never while another one probes."""
        if self.failures and self.probing:
            return math.inf
        return max(self.next_at, self.rests_until if self.failures else 0.0)

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
        say: Callable[[str], None] = print,
    ) -> None:
        self.name = name
        self.weights = weights or f"served:{model}"
        self.slots = slots or SLOTS_PER_ENDPOINT * len(endpoints)
        self._model, self._endpoints, self._logprobs = model, list(endpoints), logprobs
        self._cause_of_death, self._say = cause_of_death, say

    async def encode(self, text: str) -> Sequence[int] | str:
        """Token ids from a server's ``/tokenize`` (special tokens as its tokenizer adds them), else the text."""
        if not all(endpoint.tokenizes for endpoint in self._endpoints):
            return text
        endpoint = await self._choose()
        body = {"model": self._model, "prompt": text, "add_special_tokens": True}
        return dialects.read_tokens(await self._post(endpoint, dialects.tokenize_url(endpoint.url), body))

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
        endpoint = await self._choose()
        started = time.monotonic()
        try:
            answer = await self._post(endpoint, f"{endpoint.url}/completions", body)
        except EngineError as error:
            if error.retryable or endpoint.answered or not _learns_from(endpoint, body, str(error)):
                raise
            raise EngineError(f"{error}; asking in another way from now on") from None
        completion = dialects.read_completion(answer, sampling.max_tokens, time.monotonic() - started)
        completion = checked(completion, sampling.stop)
        if not endpoint.answered:
            self._say(_dialect(endpoint, body, answer))
        endpoint.answered = True
        endpoint.interval *= _FASTER
        return completion

    async def close(self) -> None:
        """Close all connections; requests in flight are aborted."""
        for endpoint in self._endpoints:
            await endpoint.client.aclose()

    async def _post(self, endpoint: _Endpoint, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        is_probe = endpoint.probing = endpoint.failures > 0
        endpoint.in_flight += 1
        sent = endpoint.last_used = time.monotonic()
        endpoint.next_at = max(endpoint.next_at, sent) + endpoint.interval
        kept = {name: value for name, value in body.items() if name not in endpoint.left_out}
        try:
            async with endpoint.client.stream("POST", url, json=kept) as response:
                received = await dialects.read_body(response)
            reply = dialects.read_object(response, received, answered=endpoint.answered)
        except EngineError as error:
            if isinstance(error, EngineBusy):
                self._slow_down(endpoint, sent, error)
            elif error.retryable:
                endpoint.failed(time.monotonic())
            raise
        except httpx.HTTPError as error:
            endpoint.failed(time.monotonic())
            reason = f"{url}: {type(error).__name__} {error}".strip()
            if not (endpoint.answered and isinstance(error, httpx.NetworkError)):
                raise EngineError(reason) from None
            busy = EngineBusy(reason, 0.0)  # small servers reset the connections that they cannot take
            self._slow_down(endpoint, sent, busy)
            raise busy from None
        finally:
            endpoint.in_flight -= 1
            if is_probe:
                endpoint.probing = False
        endpoint.failures = 0
        return reply

    def _slow_down(self, endpoint: _Endpoint, sent: float, error: EngineBusy) -> None:
        """Rest as asked and go on more slowly, said once; all that was sent before counts as one event."""
        now = time.monotonic()
        endpoint.next_at = max(endpoint.next_at, now + error.seconds)
        if not endpoint.interval:
            self._say(f"going on more slowly: {error}")
        if sent >= endpoint.slowed_at:
            endpoint.slowed_at = now
            endpoint.interval = min(_LONGEST_INTERVAL, _SLOWER * (endpoint.interval or 1 / max(endpoint.in_flight, 1)))

    async def _choose(self) -> _Endpoint:
        """A rested endpoint to probe, else the free one with the fewest in flight; waits while all of them rest."""
        while True:
            now = time.monotonic()
            free = [endpoint for endpoint in self._endpoints if endpoint.free_at() <= now]
            if free:
                return min(free, key=lambda one: (one.failures == 0, one.in_flight, one.last_used))
            if cause := self._cause_of_death():
                raise EngineLost(cause)
            await asyncio.sleep(min(0.1, min(endpoint.free_at() for endpoint in self._endpoints) - now))


def _learns_from(endpoint: _Endpoint, body: Mapping[str, Any], refusal: str) -> bool:
    """True when a first request was refused that can be put in another way: without an optional field, or as text."""
    optional = {"seed"} | ({"top_p"} if body["top_p"] == 1 else set())  # 1 is what servers take when nothing is said
    named = {name for name in optional - endpoint.left_out if name in refusal}
    endpoint.left_out |= named
    if not named:
        endpoint.tokenizes = False
    return bool(named) or not isinstance(body["prompt"], str)


def _dialect(endpoint: _Endpoint, body: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """One line that says how this server is spoken to and what its replies hold."""
    counted = dialects.token_count(answer, body["max_tokens"]) is not None
    parts = [
        f"prompts as {'text' if isinstance(body['prompt'], str) else 'token ids'}",
        "tokens as it counts them" if counted else f"tokens estimated, {dialects.BYTES_PER_TOKEN} bytes each",
        "ends as it states them" if dialects.stated_end(answer) is not None else "ends told by the number of tokens",
        *(f"{name} left out" for name in sorted(endpoint.left_out)),
    ]
    return f"{endpoint.url}: model {body['model']}, {', '.join(parts)}"


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

    ``addresses`` are base URLs such as ``http://host:8000/v1`` (any version; a pasted route is cut off); ``model`` "",
    "auto" or "embedded" takes the name of the one model that the servers give. ``socket`` sends everything to a Unix
    socket. ``api_key_variable`` is the *name* of the environment variable that holds the key. Other ``options`` are
    EndpointEngine's. Servers that are down now are probed later.

    Raises EngineError when no server answers, or they serve different models, or several.
    """
    headers = {}
    if api_key_variable:
        if not os.environ.get(api_key_variable):
            raise EngineError(f"environment variable {api_key_variable} (the API key) is not set", retryable=False)
        headers["Authorization"] = f"Bearer {os.environ[api_key_variable]}"
    # One connection for each request: a reply that comes late, or twice, can meet no other request.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    endpoints = []
    for base in map(dialects.api_base, addresses):
        client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(request_seconds, connect=10.0, pool=None),
            limits=limits,
            transport=None if socket is None else httpx.AsyncHTTPTransport(uds=str(socket), limits=limits),
            trust_env=socket is None and not dialects.is_this_machine(base),  # a proxy cannot reach this machine for us
        )
        endpoints.append(_Endpoint(url=base, client=client))
    try:
        wanted = "" if model in ("auto", "embedded") else model  # embedded: the default, no name was given
        served = await _agree_on_model(endpoints, wanted, say)
        return EndpointEngine(endpoints, model=served, say=say, **options)
    except BaseException:
        for endpoint in endpoints:
            await endpoint.client.aclose()
        raise


async def _agree_on_model(endpoints: Sequence[_Endpoint], wanted: str, say: Callable[[str], None]) -> str:
    served: dict[str, str] = {}
    down: list[str] = []
    for endpoint in endpoints:
        try:
            name = served[endpoint.url] = _choose_model(endpoint, wanted, await _served_models(endpoint))
            endpoint.tokenizes = await _can_tokenize(endpoint, name)
        except (httpx.HTTPError, EngineError) as error:
            if isinstance(error, EngineError) and not error.retryable:
                raise
            down.append(f"{endpoint.url} does not answer ({type(error).__name__} {error})")
            endpoint.failed(time.monotonic())
    if not served:
        raise EngineLost(f"{'; '.join(down)}: start the server or correct the address")
    for line in down:
        say(f"{line}; going on with the others")
    if len(set(served.values())) > 1:
        pairs = ", ".join(f"{url}: {name}" for url, name in served.items())
        raise EngineLost(f"the endpoints serve different models ({pairs}); name one with the model")
    return next(iter(served.values()))


def _choose_model(endpoint: _Endpoint, wanted: str, names: Sequence[str]) -> str:
    """The wanted model, or the only one there is. Of several none is taken: one of them may make embeddings."""
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    if wanted and (wanted in names or not names):
        return wanted
    if wanted:
        raise EngineLost(f"{endpoint.url} serves {listed}, not {wanted!r}")
    if len(names) != 1:
        what = f"serves {len(names)} models ({listed})" if names else "does not say which model it serves"
        raise EngineLost(f"{endpoint.url} {what}: name one with the model (MODEL in a notebook)")
    return names[0]


async def _served_models(endpoint: _Endpoint) -> list[str]:
    """The models a server lists; none where it has no such list."""
    response = await endpoint.client.get(f"{endpoint.url}/models", timeout=10.0)
    if response.status_code in (404, 405, 501):
        return []
    try:
        return dialects.read_models(dialects.read_object(response, response.content, answered=False))
    except EngineError:
        if response.status_code == 200:
            return []
        raise


async def _can_tokenize(endpoint: _Endpoint, model: str) -> bool:
    """True where the tokenize route is vLLM's. Others have one that reads other fields and answers with nothing."""
    response = await endpoint.client.post(
        dialects.tokenize_url(endpoint.url), json={"model": model, "prompt": "1 + 1 ="}, timeout=10.0
    )
    try:
        return bool(dialects.read_tokens(dialects.read_object(response, response.content, answered=False)))
    except EngineError:
        return False
