"""Client for any number of OpenAI-compatible servers: balances, paces, rests the ones that fail, one attempt per call.

This is how the suite outgrows one machine: vLLM's own data and tensor parallelism, or several nodes, behind a list
of addresses. What it does not do: retry (``sampling`` does, and logs it) or speak chat (the prompt must arrive as is).
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dartlib.engines import dialects
from dartlib.engines.protocol import Completion, EngineBusy, EngineError, EngineLost, SamplingParameters, checked

SLOTS_PER_ENDPOINT = 64  # for servers we know nothing about; vLLM's own default takes more, small servers fewer
REQUEST_SECONDS = 600.0  # for a reply in one piece; one that comes drop by drop has twice the time
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.5, 5.0
# A rate limit makes the pace this much slower, each good reply (and second of waiting for one) a little faster:
# together they settle near the limit.
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

    remembers_prefixes = True

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
        tokens = dialects.read_tokens(await self._post(endpoint, dialects.tokenize_url(endpoint.url), body))
        if not tokens:
            raise EngineError("the server's /tokenize reply holds no tokens")
        return tokens

    async def complete(self, prompt: Sequence[int] | str, sampling: SamplingParameters, seed: int) -> Completion:
        """Answer one prompt by the endpoint with the fewest requests in flight; one attempt, raises EngineError."""
        body = {"model": self._model, "prompt": prompt, "seed": seed} | asdict(sampling)
        if not sampling.stop:
            del body["stop"]
        if self._logprobs:
            body["logprobs"] = 0
        endpoint = await self._choose()
        started = time.monotonic()
        try:
            answer = await self._post(endpoint, f"{endpoint.url}/completions", body)
        except EngineError as error:
            refused = not (error.retryable or endpoint.answered or isinstance(error, EngineLost))
            if not (refused and _learns_from(endpoint, body, str(error))):
                raise
            raise EngineError(f"{error}; asking in another way from now on") from None
        completion = dialects.read_completion(answer, sampling.max_tokens, time.monotonic() - started)
        completion = checked(completion, sampling.stop)
        if not endpoint.answered:
            self._say(_dialect(endpoint, body, answer))
        endpoint.answered = True
        endpoint.interval *= _FASTER ** (1 + endpoint.interval)
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
            async with (
                asyncio.timeout(2 * (endpoint.client.timeout.read or math.inf)),
                endpoint.client.stream("POST", url, json=kept) as response,
            ):
                received = await dialects.read_body(response)
            reply = dialects.read_object(response, received, answered=endpoint.answered)
        except (EngineError, httpx.HTTPError, TimeoutError) as error:
            failure = _as_engine_error(error, url, endpoint.answered)
            if isinstance(failure, EngineBusy):
                self._slow_down(endpoint, sent, failure, is_reset=isinstance(error, httpx.NetworkError))
            elif failure.retryable:
                endpoint.failed(time.monotonic())
            raise failure from None
        finally:
            endpoint.in_flight -= 1
            if is_probe:
                endpoint.probing = False
        endpoint.failures = 0
        return reply

    def _slow_down(self, endpoint: _Endpoint, sent: float, busy: EngineBusy, *, is_reset: bool) -> None:
        """Rest as asked and go on more slowly, said once; all that was sent before counts as one event."""
        now = time.monotonic()
        endpoint.next_at = max(endpoint.next_at, now + busy.seconds)
        if not endpoint.interval:
            self._say(f"going on more slowly: {busy}")
            endpoint.slowed_at, endpoint.interval = now, 1 / SLOTS_PER_ENDPOINT
        elif sent >= endpoint.slowed_at and not is_reset:  # a server that is down would end at the slowest pace
            endpoint.slowed_at, endpoint.interval = now, min(_LONGEST_INTERVAL, _SLOWER * endpoint.interval)

    async def _choose(self) -> _Endpoint:
        """A rested endpoint to probe, else the free one with the fewest in flight; waits while all of them rest."""
        while True:
            now = time.monotonic()
            free = [endpoint for endpoint in self._endpoints if endpoint.free_at() <= now]
            if free:
                return min(free, key=lambda one: (one.failures == 0, one.in_flight, one.last_used))
            if cause := self._cause_of_death():
                raise EngineLost(cause)
            await asyncio.sleep(max(0.02, min(0.1, *(endpoint.free_at() - now for endpoint in self._endpoints))))


def _as_engine_error(error: Exception, url: str, answered: bool) -> EngineError:
    """A failed request in our terms. Small servers reset the connections that they cannot take."""
    if isinstance(error, EngineError):
        return error
    reason = f"{url}: {type(error).__name__} {error}".strip()
    is_reset = answered and isinstance(error, httpx.NetworkError)
    return EngineBusy(reason, _FIRST_REST_SECONDS) if is_reset else EngineError(reason)


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
    prompts = "text" if isinstance(body["prompt"], str) else "token ids"
    counted = dialects.token_count(answer, body["max_tokens"]) is not None
    tokens = "as it counts them" if counted else f"estimated, {dialects.BYTES_PER_TOKEN} bytes each"
    ends = "told by the number of tokens" if dialects.stated_end(answer) is None else "as it states them"
    without = "".join(f", {name} left out" for name in sorted(endpoint.left_out))
    return f"{endpoint.url}: model {body['model']}, prompts as {prompts}, tokens {tokens}, ends {ends}{without}"


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
            names = dialects.read_models(await _asked(endpoint, f"{endpoint.url}/models"))
            name = served[endpoint.url] = _choose_model(endpoint, wanted, names)
            question = {"model": name, "prompt": "1 + 1 ="}
            tokens = dialects.read_tokens(await _asked(endpoint, dialects.tokenize_url(endpoint.url), question))
            endpoint.tokenizes = bool(tokens)  # llama.cpp's route reads another field, and answers with none
        except (httpx.HTTPError, EngineError) as error:
            if isinstance(error, EngineLost):
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
    if wanted in names or (wanted and not names):
        return wanted
    if len(names) == 1 and not wanted:
        return names[0]
    listed = ", ".join(names[:20]) + ", …" * (len(names) > 20) if names else "models that it does not list"
    hint = f", not {wanted!r}" if wanted else ": name one with the model (MODEL in a notebook)"
    raise EngineLost(f"{endpoint.url} serves {listed}{hint}")


async def _asked(endpoint: _Endpoint, url: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What a server says of itself; nothing where it lacks the route, or answers with something else."""
    method = "GET" if body is None else "POST"
    response = await endpoint.client.request(method, url, json=body, timeout=10.0)
    try:
        return dialects.read_object(response, response.content, answered=False)
    except EngineError:
        if body is not None or response.status_code in (200, 404, 405, 501):
            return {}
        raise
