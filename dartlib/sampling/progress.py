"""One plain line every few seconds: how far sampling is, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from dartlib.sampling.scheduler import Scheduler

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Writes progress lines through ``log``; rates are of this run, counts of the whole pool."""

    def __init__(self, n_queries: int, log: Callable[[str], None]) -> None:
        self._n_queries = n_queries
        self._log = log
        self._started = self._last = time.monotonic()

    def tick(self, scheduler: Scheduler, trials: int, tokens: int) -> None:
        """Write a line if the last one is old enough. ``trials`` and ``tokens`` are those of this run."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = trials / (now - self._started)
            eta = f"{scheduler.expected_remaining() / rate:.0f} s left" if rate else "no rate yet"
            self._log(self._line(scheduler, tokens, now) + f" · about {eta}")

    def finish(self, scheduler: Scheduler, trials: int, tokens: int) -> None:
        """The closing line, always written."""
        now = time.monotonic()
        self._log(self._line(scheduler, tokens, now) + f" · {trials} new trials in {now - self._started:.0f} s")

    def _line(self, scheduler: Scheduler, tokens: int, now: float) -> str:
        rate = tokens / max(now - self._started, 1e-9)
        return (
            f"sampling: {scheduler.n_finished}/{self._n_queries} queries · {scheduler.n_correct} correct of "
            f"{scheduler.trials_known} trials · {rate:.0f} tokens/s"
        )
