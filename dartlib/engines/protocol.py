"""What every engine promises: one request per trial, token ids in, one completion out.

An engine is asked from the event loop of ``engines.loop``. It makes one attempt per call; the caller
(``sampling``) decides about retries and logs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class EngineError(RuntimeError):
    """No usable reply. ``retryable`` is False when the same request can never succeed (bad request, no model)."""

    def __init__(self, reason: str, *, retryable: bool = True) -> None:
        super().__init__(reason)
        self.retryable = retryable


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

    ``logprob_sum`` is the summed log-probability of the new tokens (natural log), None where the engine
    does not report it; ``seconds`` is the wall time of the request.
    """

    text: str
    finish_reason: str
    n_tokens: int
    logprob_sum: float | None
    seconds: float


class Engine(Protocol):
    """A source of completions.

    ``name`` says which software answers; ``weights`` identifies the model's weights (hash or served name);
    ``slots`` is the number of concurrent requests that keeps it busy.
    """

    name: str
    weights: str
    slots: int

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
