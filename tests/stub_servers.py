"""Small HTTP servers that speak, and misbehave, as public servers do; their answers are the stub engine's.

Each family follows what its documentation and issue threads say of routes, request fields and reply shapes (the table
in README.md). They prove that we speak these dialects, not that the real servers do.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stub_engine import SAMPLING, StubEngine

Behaviour = Callable[[int, dict[str, Any]], "tuple[int, Any] | Sent"]


@dataclass
class Sent:
    """A reply as it goes over the wire. ``how``: whole, cut (in the middle of the body), twice, held (never closed)."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    how: str = "whole"


class StubServer:
    """An HTTP server in a thread. Subclasses answer `get` and `post`; ``bodies`` keeps what /completions was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.paths: list[str] = []
        self.port = 0
        self.start()

    def get(self, path: str) -> Sent:
        raise NotImplementedError

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        raise NotImplementedError

    def start(self) -> None:
        outer = self
        self.down = False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.headers.append(self.headers.get("Authorization"))
                outer.paths.append(self.path)
                self.answer(outer.get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.down:  # connections kept alive die with their server
                    self.close_connection = True
                    return
                outer.paths.append(self.path)
                if self.path.endswith("/completions"):
                    outer.bodies.append(body)
                self.answer(outer.post(self.path, body))

            def answer(self, sent: Sent) -> None:
                data = sent.body if isinstance(sent.body, bytes) else json.dumps(sent.body).encode()
                head = "".join(f"{name}: {value}\r\n" for name, value in sent.headers.items())
                if sent.how != "held":
                    head += f"Content-Length: {len(data) + (1000 if sent.how == 'cut' else 0)}\r\n"
                whole = f"HTTP/1.1 {sent.status} said\r\n{head}\r\n".encode() + data
                try:
                    self.wfile.write(whole * (2 if sent.how == "twice" else 1))
                    self.wfile.flush()
                    if sent.how == "held":
                        time.sleep(30)
                except OSError:
                    pass  # the client has gone
                self.close_connection = sent.how in ("cut", "held")

            def log_message(self, *_: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def stop(self) -> None:
        self.down = True
        self.server.shutdown()
        self.server.server_close()


class FakeServer(StubServer):
    """One model; ``behave`` gets (number of the request, body) and gives (status, reply) or what is sent.

    Status 299 is a good reply that breaks off in the middle of its body.
    """

    def __init__(self, behave: Behaviour, *, tokenizes: bool = False) -> None:
        self.behave, self.tokenizes = behave, tokenizes
        self.models: Any = None
        self.model = "fake"
        self.tokens: Any = [1, 2, 3]
        super().__init__()

    def get(self, path: str) -> Sent:
        return Sent(200, {"data": [{"id": self.model}]}) if self.models is None else self.models

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        if path == "/tokenize":
            return Sent(200, {"tokens": self.tokens}) if self.tokenizes else Sent(404, {})
        sent = self.behave(len(self.bodies), body)
        if isinstance(sent, Sent):
            return sent
        return Sent(200, sent[1], how="cut") if sent[0] == 299 else Sent(*sent)


def stub_text(prompt: Any, seed: int) -> str:
    """The stub engine's answer to a prompt, as text or as `Vllm`'s token ids."""
    text = prompt if isinstance(prompt, str) else "".join(map(chr, prompt))
    return asyncio.run(StubEngine().complete(text, SAMPLING, seed)).text


def completion(text: str, reason: Any = "stop", tokens: Any = 5) -> dict[str, Any]:
    return {
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None}],
        "usage": {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 14},
    }


def models(*names: str) -> Sent:
    return Sent(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


NOT_FOUND = Sent(404, b"404 page not found")


class Vllm(StubServer):
    """Token prompts and a tokenize route of its own; stop strings are cut off."""

    def get(self, path: str) -> Sent:
        return models("teacher") if path == "/v1/models" else NOT_FOUND

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        if path == "/tokenize":
            if "prompt" not in body:
                return Sent(400, {"error": {"message": "prompt: Field required"}})
            return Sent(200, {"tokens": [ord(letter) for letter in body["prompt"]], "count": len(body["prompt"])})
        if path != "/v1/completions":
            return NOT_FOUND
        reply = completion(stub_text(body["prompt"], body["seed"]))
        reply["choices"][0] |= {"stop_reason": "\n\n", "token_ids": None}
        return Sent(200, reply)


class LlamaCpp(StubServer):
    """Its tokenize route reads ``content``, and answers a request without it with no tokens."""

    def get(self, path: str) -> Sent:
        return models("gguf/teacher.gguf") if path in ("/v1/models", "/models") else NOT_FOUND

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        if path == "/tokenize":
            return Sent(200, {"tokens": [ord(letter) for letter in body.get("content", "")]})
        if path != "/v1/completions":
            return Sent(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})
        if not body["prompt"]:
            return Sent(400, {"error": {"code": 400, "message": "empty prompt"}})
        return Sent(200, completion(stub_text(body["prompt"], body["seed"])) | {"timings": {"predicted_n": 5}})


class Ollama(StubServer):
    """Lists every model on the disk, also those for embeddings; takes text only; has no tokenize route."""

    names: tuple[str, ...] = ("teacher:latest", "nomic-embed-text:latest")

    def get(self, path: str) -> Sent:
        return models(*self.names) if path == "/v1/models" else NOT_FOUND

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        if path != "/v1/completions":
            return NOT_FOUND
        if body["model"] not in self.names:
            return Sent(404, {"error": {"message": f"model '{body['model']}' not found", "type": "api_error"}})
        if not isinstance(body["prompt"], str):
            return Sent(400, {"error": {"message": "cannot unmarshal array into field prompt of type string"}})
        return Sent(200, completion(stub_text(body["prompt"], body["seed"])))


class Tgi(StubServer):
    """Text only, top_p strictly below 1, stop strings left in, its own finish reasons and tokenize route."""

    def get(self, path: str) -> Sent:
        return models("teacher") if path == "/v1/models" else NOT_FOUND

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        if path == "/tokenize":
            return Sent(422, b"Failed to deserialize the JSON body into the target type: missing field `inputs`")
        if path != "/v1/completions":
            return NOT_FOUND
        if not 0 < body.get("top_p", 0.5) < 1:
            message = "Input validation error: `top_p` must be > 0.0 and < 1.0"
            return Sent(422, {"error": message, "error_type": "validation"})
        left_in = body["stop"][0] + "Q:" if body["seed"] % 2 else "</s>"
        return Sent(200, completion(stub_text(body["prompt"], body["seed"]) + left_in, "eos_token"))


class Hosted(StubServer):
    """Under /openai/v1, with a key, no seed field, and ``limit`` requests in a second; else 429 and Retry-After."""

    def __init__(self, limit: int = 20) -> None:
        self.limit, self.refused = limit, 0
        self.window: list[float] = []
        self.lock = threading.Lock()
        super().__init__()

    @property
    def url(self) -> str:
        return f"{self.root}/openai/v1"

    def get(self, path: str) -> Sent:
        return models("teacher") if path == "/openai/v1/models" else NOT_FOUND

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        if path != "/openai/v1/completions":
            return NOT_FOUND
        with self.lock:
            now = time.monotonic()
            self.window = [at for at in self.window if at > now - 1]
            if len(self.window) >= self.limit:
                self.refused += 1
                wait = {"Retry-After": str(round(self.window[0] + 1 - now, 3))}
                return Sent(429, {"error": {"message": "Rate limit reached for requests"}}, wait)
            self.window.append(now)
        if "seed" in body:
            return Sent(422, {"error": {"message": "seed: Extra inputs are not permitted"}})
        return Sent(200, completion(stub_text(body["prompt"], len(self.bodies))))


CORRUPTIONS = ("late", "cut", "twice", "foreign", "surrogate", "past_stop", "null", "error", "stream", "huge", "busy")


def corrupted(kind: str, reply: dict[str, Any], late: float, stop: str = "\n\n") -> Sent:
    """A good completion reply as a bad server or proxy would send it on."""
    text = reply["choices"][0]["text"]

    def with_text(changed: Any, **other: Any) -> dict[str, Any]:
        return reply | {"choices": [reply["choices"][0] | {"text": changed} | other]}

    if kind == "late":
        time.sleep(late)
    if kind == "stream":
        half = len(text) // 2
        parts = [with_text(text[:half], finish_reason=None), with_text(text[half:])]
        lines = [f"data: {json.dumps(part)}\n\n" for part in parts] + ["data: [DONE]\n\n"]
        return Sent(200, "".join(lines).encode(), {"Content-Type": "text/event-stream"}, "held")
    bodies = {
        "foreign": with_text(text[:5], finish_reason="banana"),
        "surrogate": with_text(text + " \ud83d"),
        "past_stop": with_text(f"{text}{stop}Q: What is 2 + 5?\nA: The answer is 7."),
        "null": with_text(None),
        "error": {"error": {"message": "upstream \udc00 broke", "code": 502}},
        "huge": reply | {"usage": {"completion_tokens": 10**30}},
    }
    if kind == "busy":
        return Sent(429, {"error": "busy"}, {"Retry-After": "0.05"})
    return Sent(200, bodies.get(kind, reply), how=kind if kind in ("cut", "twice") else "whole")


class Corrupting:
    """A behaviour for `FakeServer`: the stub engine's answers, a share of them corrupted; counts what it did."""

    def __init__(self, share: float, late: float, seed: int = 1) -> None:
        self.share, self.late = share, late
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.done: dict[str, int] = dict.fromkeys(CORRUPTIONS, 0)

    def __call__(self, number: int, body: dict[str, Any]) -> Sent:
        reply = completion(stub_text(body["prompt"], body["seed"]))
        with self.lock:
            if self.random.random() >= self.share:
                return Sent(200, reply)
            kind = self.random.choice(CORRUPTIONS)
            self.done[kind] += 1
        return corrupted(kind, reply, self.late)
