"""What every engine promises: one request per trial, token ids in, one completion out.

An engine is asked from the event loop of ``engines.loop``. It makes one attempt per call; the caller
(``sampling``) decides about retries and logs them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

# What ends a turn, or opens the next one, in the vocabularies of the usual model families: never part of an answer.
_TURN = re.compile(
    r"<\|(?:im_end|im_start|endoftext|end_of_text|begin_of_text|eot_id|eom_id|start_header_id|end|user|assistant)\|>"
    r"|</s>|<eos>|<(?:end|start)_of_turn>|<｜(?:end▁of▁sentence|User|Assistant)｜>"
)
_SPECIAL_AT_END = re.compile(r"(?:\s*(?:<\|\w+\|>|<｜[^｜<>\s]+｜>|<s>|<(?:bos|pad|unk)>))+\s*\Z")


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a response is drawn. ``temperature`` 0 is greedy; ``max_tokens`` counts new tokens."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply. ``finish_reason`` is ``stop`` or ``length``; stop strings are not part of ``text``.

    ``n_tokens`` is what the engine generated, also what was cut from the text; ``logprob_sum`` their summed
    log-probability (natural log), None where the engine does not report it or the text was cut here; ``seconds`` is
    the wall time of the request.
    """

    text: str
    finish_reason: str
    n_tokens: int
    logprob_sum: float | None
    seconds: float


class EngineError(RuntimeError):
    """No usable reply. ``retryable`` is False when the same request can never succeed (bad request, no model).

    ``completion`` is what may be kept if every attempt gives the very same: the engine then means it.
    """

    def __init__(self, reason: str, *, retryable: bool = True, completion: Completion | None = None) -> None:
        super().__init__(reason.encode(errors="replace").decode())  # a server's words may hold half a surrogate pair
        self.retryable = retryable
        self.completion = completion


class EngineBusy(EngineError):
    """Too many requests for now: this one was no attempt. ``seconds`` is the rest that was asked for."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


class EngineLost(EngineError):
    """No request can succeed any more, or from the start: the server died, wants a key, lacks the route."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retryable=False)


def checked(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion with its text ended where it had to end, whatever the engine made of the stop strings.

    The text is cut at the first stop string or token that ends a turn; a text that ended by itself loses the beginning
    of a stop string at its end, too. What is cut ended by ``stop``. Raises EngineError for half a surrogate pair,
    which no file could hold.
    """
    text = completion.text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if whole != text:
        kept = checked(replace(completion, text=whole), stop)
        raise EngineError("the text holds half a surrogate pair", completion=kept)
    ends = [at for one in stop if one and (at := text.find(one)) >= 0]
    ends += [found.start() for pattern in (_TURN, _SPECIAL_AT_END) if (found := pattern.search(text))]
    if not ends and completion.finish_reason == "stop":
        ends = [len(text) - max((_beginning_at_end(text, one) for one in stop), default=0)]
    if not ends or min(ends) == len(text):
        return completion
    return replace(completion, text=text[: min(ends)], finish_reason="stop", logprob_sum=None)


def _beginning_at_end(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` are the beginning of ``stop``.

    A single character or mere space may belong to the answer, and so may the end of a word.
    """
    for size in range(len(stop) - 1, 1, -1):
        inside_word = text[-size - 1 : -size].isalnum() and stop[0].isalnum()
        if stop[:size].strip() and text.endswith(stop[:size]) and not inside_word:
            return size
    return 0


class Engine(Protocol):
    """A source of completions.

    ``name`` says which software answers; ``weights`` identifies the model's weights (hash or served name);
    ``slots`` is the number of concurrent requests that keeps it busy; ``remembers_prefixes``: what prompts share is
    computed once for all, when one of them has gone ahead.
    """

    name: str
    weights: str
    slots: int
    remembers_prefixes: bool

    async def encode(self, text: str) -> Sequence[int] | str:
        """Token ids of a prompt, with exactly one BOS where the model wants one.

        An endpoint without a tokenize route returns the text itself: then its server tokenizes, once.
        """
        ...

    async def complete(self, prompt: Sequence[int] | str, sampling: SamplingParameters, seed: int) -> Completion:
        """Answer one prompt; raises EngineError. Cancelling the awaiting task aborts the request."""
        ...

    async def close(self) -> None:
        """Free what the engine holds. Safe to call twice."""
        ...
