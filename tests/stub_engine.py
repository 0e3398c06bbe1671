"""A stand-in for an engine, for tests of logic and fault injection only. It proves nothing about real engines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from dartlib.engines import Completion, EngineError, SamplingParameters
from dartlib.queries import Template
from dartlib.records import Query, make_queries

TEMPLATE = Template(name="stub", before="Q: ", after="\nA:", stop=("\n\n",))
SAMPLING = SamplingParameters(temperature=0.8, top_p=0.95, max_tokens=64)


def numbered_queries(rates: Sequence[float]) -> list[Query]:
    """Queries whose true pass rate under the stub engine is in their text; the reference answer is 7."""
    return make_queries(
        [
            {"query": f"number {index} rate {rate}", "reference_answer": "7", "level": 1 + index % 5}
            for index, rate in enumerate(rates)
        ],
        source="stub",
        version="1",
    )


class StubEngine:
    """Answers right with the probability written in the query, decided by prompt and seed alone.

    ``delay`` (seconds, seeded by ``timing``) shuffles the order of replies. ``fault`` may raise or return a
    completion instead, given the number of the request.
    """

    name = "stub"
    weights = "stub-weights"
    remembers_prefixes = True

    def __init__(
        self,
        slots: int = 8,
        timing: int = 0,
        delay: float = 0.0,
        fault: Callable[[int], None] | None = None,
    ) -> None:
        self.slots = slots
        self.requests = 0
        self.in_flight = self.most_in_flight = 0
        self._delay = delay
        self._order = random.Random(timing)
        self._fault = fault

    async def encode(self, text: str) -> str:
        return text

    async def complete(self, prompt: Sequence[int] | str, sampling: SamplingParameters, seed: int) -> Completion:
        self.requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._fault is not None:
                self._fault(self.requests)
            await asyncio.sleep(self._delay * self._order.random())
        finally:
            self.in_flight -= 1
        assert isinstance(prompt, str)
        rate = float(prompt.split("rate ")[1].split("\n")[0])
        right = random.Random(f"{prompt}:{seed}").random() < rate
        text = f" Seed {seed}. The answer is {7 if right else 8}."
        return Completion(text, "stop", 5, None, 0.0)

    async def close(self) -> None:
        return None


def fail_first(count: int, *, retryable: bool = True) -> Callable[[int], None]:
    """A fault that breaks the first ``count`` requests."""

    def fault(number: int) -> None:
        if number <= count:
            raise EngineError("stub says no", retryable=retryable)

    return fault
