"""How far sampling is, how fast, and how long it will take: a line every few seconds, or a widget in Jupyter."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from dartlib.processes import a_person_is_watching
from dartlib.sampling.scheduler import Scheduler

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_WIDGET_UPDATES = 1.0
SECONDS_OF_RATE = 30.0
TRIALS_FOR_A_RATE = 20


class Progress:
    """Progress of one call to ``sample``; rates are of this call, counts of the whole pool.

    Plain lines go through ``log``. In a notebook that a person has open, a bar with the same text takes their place,
    and only the closing line is written. Make it in the thread that runs the cell.
    """

    def __init__(self, n_queries: int, log: Callable[[str], None]) -> None:
        self._n_queries = n_queries
        self._log = log
        self._started = self._last = time.monotonic()
        self._recent = deque([(self._started, 0)])  # (time, trials of this call) of the last lines
        self._bar = _show_bar(n_queries) if a_person_is_watching() else None
        self._pause = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_WIDGET_UPDATES

    def tick(self, scheduler: Scheduler, trials: int, tokens: int) -> None:
        """Tell how it stands if it is time. ``trials`` and ``tokens`` are those of this call."""
        now = time.monotonic()
        if now - self._last < self._pause:
            return
        self._last = now
        self._tell(scheduler, f"{self._line(scheduler, tokens, now)} · {self._remaining(scheduler, trials, now)}")

    def _remaining(self, scheduler: Scheduler, trials: int, now: float) -> str:
        """Time left at the rate of the last half minute; the first replies come alone and say nothing of the others."""
        self._recent.append((now, trials))
        while len(self._recent) > 2 and self._recent[0][0] < now - SECONDS_OF_RATE:
            self._recent.popleft()
        then, before = self._recent[0]
        if not trials:
            return "no reply yet"
        if trials < TRIALS_FOR_A_RATE or trials == before:
            return "time left unknown yet"
        return f"about {_duration(scheduler.expected_remaining() * (now - then) / (trials - before))} left"

    def finish(self, scheduler: Scheduler, trials: int, tokens: int) -> None:
        """The closing line, always written."""
        now = time.monotonic()
        line = f"{self._line(scheduler, tokens, now)} · {trials} new trials in {_duration(now - self._started)}"
        if self._bar is not None:
            self._tell(scheduler, line)
        self._log(line)

    def _tell(self, scheduler: Scheduler, line: str) -> None:
        if self._bar is None:
            self._log(line)
        else:
            bar, text = self._bar.children
            bar.value, text.value = scheduler.n_finished, line

    def _line(self, scheduler: Scheduler, tokens: int, now: float) -> str:
        rate = tokens / max(now - self._started, 1e-9)
        return (
            f"sampling: {scheduler.n_finished}/{self._n_queries} queries · {scheduler.n_correct} correct of "
            f"{scheduler.trials_known} trials · {rate:.0f} tokens/s"
        )


def _show_bar(n_queries: int) -> Any:
    import ipywidgets
    from IPython.display import display

    bar = ipywidgets.IntProgress(max=n_queries, layout=ipywidgets.Layout(width="100%"))
    box = ipywidgets.VBox([bar, ipywidgets.Label("sampling: waiting for the first reply")])
    display(box)
    return box


def _duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
