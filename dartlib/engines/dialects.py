"""How OpenAI-compatible servers speak: addresses, error words, streams, and the fields of a reply in several spellings.

Tried against stubs of vLLM, llama.cpp, Ollama, TGI and hosted services (tests/README.md). Pure functions of what was
received: a server's text never enters the pool unread, and whatever is odd in it is one EngineError.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import httpx

from dartlib.engines.protocol import Completion, EngineBusy, EngineError, EngineLost

MAX_REPLY_BYTES = 64 * 2**20
LONGEST_ASKED_REST = 600.0  # a server that asks for a longer rest is asked again after this one
BYTES_PER_TOKEN = 4  # of English text, where a server does not count
_RATE_LIMIT_REST = 1.0  # where a server does not say how long to wait
_HOPELESS_STATUS = (401, 402, 403, 404, 405)  # from a server that has not answered yet; else they pass, as these:
_PASSING_STATUS = (*_HOPELESS_STATUS, 408, 425, 429)
_STOP = ("stop", "eos", "eos_token", "stop_sequence", "stop_token", "stop_string", "end_turn", "complete", "completed")
_LENGTH = ("length", "max_tokens", "max_length", "max_output_tokens", "model_length")
_REASONS = dict.fromkeys(_STOP, "stop") | dict.fromkeys(_LENGTH, "length") | {"content_filter": "content_filter"}
_ROUTE = re.compile(r"/(?:chat/completions|chat|completions|completion|models|tokenize|embeddings)$")
_VERSION = re.compile(r"/v\d\w*(?=/|$)")
_STREAM_END = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def api_base(address: str) -> str:
    """The base URL of the API for an address as people write it: bare, with any version, or with a whole route."""
    try:
        url = httpx.URL(address.strip())
    except httpx.InvalidURL as error:
        raise EngineLost(f"{address!r} is no address ({error}): write http://host:port/v1") from None
    if url.query or url.fragment or url.userinfo or not url.host:
        raise EngineLost(f"{url!r} cannot be used: write http://host:port/v1, without ?, # or a password")
    path = _ROUTE.sub("", url.path.rstrip("/")).rstrip("/")
    return str(url.copy_with(path=path if _VERSION.search(path) else f"{path}/v1"))


def tokenize_url(base: str) -> str:
    """vLLM has its tokenize route beside the version, not under it."""
    return re.sub(r"/v\d\w*$", "", base) + "/tokenize"


def is_this_machine(base: str) -> bool:
    """True for a loopback address, where a proxy of the environment has no business."""
    host = httpx.URL(base).host
    return host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")


async def read_body(response: httpx.Response) -> bytes:
    """The body of a reply that is being received; of a stream, up to its closing line.

    Some servers hold the connection of a stream open behind that line.
    """
    body = bytearray()
    async for part in response.aiter_bytes():
        looked_at = max(0, len(body) - 16)
        body += part
        if len(body) > MAX_REPLY_BYTES:
            raise EngineError(f"{response.url}: a reply of more than {MAX_REPLY_BYTES >> 20} MiB")
        if _STREAM_END.search(body, looked_at):
            break
    return bytes(body)


def read_object(response: httpx.Response, body: bytes, *, answered: bool) -> Mapping[str, Any]:
    """The JSON object of a good reply, also of one that came as a stream; else EngineError with the server's words.

    ``answered``: this server has given good completions, so what seems hopeless is a passing fault.
    """
    where, status, reply = str(response.url), response.status_code, _parsed(body)
    error = reply.get("error") if isinstance(reply, dict) else None
    if status == 200 and error and not reply.get("choices"):  # some send their errors with status 200
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
    if status != 200:
        words = f"{where}: HTTP {status}, {_words(reply, body)}"
        if status == 429 or (status == 503 and "retry-after" in response.headers):
            raise EngineBusy(words, _asked_rest(response.headers))
        if status in (404, 405) and where.endswith("/completions"):
            words += "; a server with the completions route is needed (chat-only servers cannot be used)"
        if status in _HOPELESS_STATUS and not answered:
            raise EngineLost(words)
        raise EngineError(words, retryable=status >= 500 or status in _PASSING_STATUS)
    if reply is None:
        raise EngineError(f"{where}: the reply is not JSON: {_words(reply, body)}")
    if not isinstance(reply, dict):
        raise EngineError(f"{where}: the reply is not a JSON object")
    return reply


def _parsed(body: bytes) -> Any:
    """The JSON value of a body, or of a stream's parts put together; None when it is neither."""
    try:
        if body.lstrip().startswith((b"data:", b"event:", b":")):
            return _joined(body.decode())
        return json.loads(body)
    except _MALFORMED:
        return None


def _joined(stream: str) -> dict[str, Any] | None:
    """One reply from the parts of a stream; None when it ended before the server said that it was over."""
    text, reason, usage = None, None, None
    for line in stream.split("\n"):
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            reason = reason or ""
            break
        part = json.loads(data) if line.startswith("data:") else {}
        if part.get("error"):
            return {"error": part["error"]}
        usage = part.get("usage") or usage
        for choice in part.get("choices") or ():
            text = (text or "") + choice["text"]
            reason = choice.get("finish_reason") or reason
    return None if reason is None else {"choices": [{"text": text, "finish_reason": reason or None}], "usage": usage}


def _words(reply: Any, body: bytes) -> str:
    """The server's own words in an error reply, shortened to one line."""
    inner = reply.get("error", reply) if isinstance(reply, dict) else reply
    said = inner.get("message", inner) if isinstance(inner, dict) else inner
    text = body.decode(errors="replace") if reply is None else str(said)
    return " ".join(text.split())[:300] or "no message"


def _asked_rest(headers: httpx.Headers) -> float:
    """Seconds to wait, from Retry-After in seconds or as a date."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        date = email.utils.parsedate_tz(value)
        seconds = email.utils.mktime_tz(date) - time.time() if date else math.nan
    return min(seconds, LONGEST_ASKED_REST) if seconds > 0 else _RATE_LIMIT_REST


def read_models(reply: Mapping[str, Any]) -> list[str]:
    """The names in a reply of the models route."""
    entries = reply.get("data")
    known = entries if isinstance(entries, list) else []
    return [str(one["id"]) for one in known if isinstance(one, dict) and "id" in one]


def read_tokens(reply: Mapping[str, Any]) -> list[int]:
    """Token ids of a tokenize reply, none where it holds something else."""
    tokens = reply.get("tokens")
    return tokens if isinstance(tokens, list) and all(type(one) is int and one >= 0 for one in tokens) else []


def read_completion(reply: Mapping[str, Any], limit: int, seconds: float) -> Completion:
    """Check a completion reply field by field; EngineError for one without a text or with a foreign end.

    Where the server states no finish_reason, as many tokens as the ``limit`` tell a cut text; where it counts no
    tokens, they are estimated from the length of the text.
    """
    try:
        choice = reply["choices"][0]
        text, said = choice["text"], stated_end(reply)
    except _MALFORMED:
        raise EngineError(f"the reply is no completion: {_words(reply, b'')}") from None
    if not isinstance(text, str):
        raise EngineError(f"the reply is no completion (its text is {text!r:.40})")
    count = token_count(reply, limit)
    reason = _REASONS.get(str(said).lower())
    if said is None and count is not None:
        reason = "length" if count >= limit else "stop"
    if reason is None:
        missing = " and no usage, so that a cut text could not be told" if said is None else ""
        raise EngineError(f"the reply is no completion (finish_reason {said!r:.40}{missing})")
    n_tokens = math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN) if count is None else count
    if reason == "content_filter":
        cut = Completion(text.encode(errors="replace").decode(), "length", n_tokens, None, seconds)
        raise EngineError("the server's content filter cut the reply", completion=cut)
    return Completion(text, reason, n_tokens, _logprob_sum(choice.get("logprobs")), seconds)


def stated_end(reply: Mapping[str, Any]) -> Any:
    """The finish reason in the server's own spelling, None where it states none."""
    choice = reply["choices"][0]
    return choice.get("finish_reason", choice.get("finishReason"))


def token_count(reply: Mapping[str, Any], limit: int) -> int | None:
    """The number of new tokens that a reply states, None when it states none that can be."""
    usage = reply.get("usage")
    counts = [usage.get(name) for name in ("completion_tokens", "output_tokens")] if isinstance(usage, dict) else []
    return next((count for count in counts if type(count) is int and 0 <= count <= 2 * limit), None)


def _logprob_sum(logprobs: Any) -> float | None:
    try:
        total = math.fsum(logprobs["token_logprobs"])
    except _MALFORMED:
        return None
    return total if math.isfinite(total) else None
