"""When a run must stop because going on would waste what it costs: a dead engine, unusable replies, a lost grader."""

import math
import time
from collections import Counter, deque
from pathlib import Path

from dartlib.engines.protocol import EngineBusy, EngineError, EngineLost
from dartlib.records import Trial, Verdict
from dartlib.statistics import wilson_interval

# Seconds without one usable reply after which an engine counts as broken: one that has never answered in this call,
# and one that has. A rate limit that asks for longer rests gets the time of five of them.
FIRST_PATIENCE_SECONDS, PATIENCE_SECONDS = 45.0, 120.0
# A grader that gives up this often says nothing about the responses.
MAX_TIMEOUT_SHARE, MIN_TRIALS_FOR_TIMEOUT_SHARE = 0.01, 200
# With so many replies cut or without an answer, template, stop strings or max_tokens are wrong. The share must be
# above the limit beyond doubt (lower end of its 95 % Wilson interval), and so many replies must be there.
MAX_UNUSABLE_SHARE, MIN_TRIALS_FOR_UNUSABLE_SHARE = 0.5, 48


class SamplingError(RuntimeError):
    """Sampling stopped; what was flushed stays, and the same call goes on from there."""


class Guards:
    """Counts of one call to ``sample`` and the limits on them; every check raises SamplingError."""

    def __init__(self, pool: Path) -> None:
        self.verdicts: Counter[str] = Counter()
        self.failed_requests, self.last_failure, self.allow_unusable = 0, "", False
        self._pool = pool
        self._unusable: deque[Trial] = deque(maxlen=3)  # the last ones
        self._patience, self._failing_since, self._failures = FIRST_PATIENCE_SECONDS, math.inf, 0

    def note_reply(self) -> None:
        """A usable reply came: the engine works."""
        self._patience, self._failing_since, self._failures = PATIENCE_SECONDS, math.inf, 0

    def check_failure(self, error: EngineError, outstanding: int) -> None:
        """Stop when the engine is lost, or nothing but failures came for so long, over all queries.

        Of ``outstanding`` requests each must have had its failure: a slow engine with one bad request is not broken.
        """
        now = time.monotonic()
        self.last_failure = str(error)
        self._failures += 1
        self._failing_since = min(self._failing_since, now)
        seconds = now - self._failing_since
        patience = max(self._patience, 5 * error.seconds) if isinstance(error, EngineBusy) else self._patience
        if isinstance(error, EngineLost):
            raise SamplingError(f"the engine cannot answer: {error}")
        if seconds > patience and self._failures >= outstanding:
            raise SamplingError(f"the engine gave no usable reply for {seconds:.0f} s; the last failure was: {error}")

    def note_verdict(self, trial: Trial, verdict: Verdict) -> None:
        """Count a verdict and keep what an example needs."""
        self.verdicts[verdict.value] += 1
        if verdict is Verdict.NO_ANSWER:
            self._unusable.append(trial)

    def check_verdicts(self) -> None:
        """Stop when the grader gives up too often, or most replies cannot be used."""
        graded = self.verdicts.total()
        timeouts, unusable = self.verdicts[Verdict.TIMEOUT.value], self.verdicts[Verdict.NO_ANSWER.value]
        if graded >= MIN_TRIALS_FOR_TIMEOUT_SHARE and timeouts > MAX_TIMEOUT_SHARE * graded:
            raise SamplingError(
                f"the grader gave up on {timeouts} of {graded} trials (limit {MAX_TIMEOUT_SHARE:.0%}): read them with "
                f"open_pool({str(self._pool)!r}).samples(..., where=\"verdict == 'timeout'\")"
            )
        if self.allow_unusable or graded < MIN_TRIALS_FOR_UNUSABLE_SHARE or not self._unusable:
            return
        if wilson_interval(unusable, graded)[0] > MAX_UNUSABLE_SHARE:
            examples = "".join(f"\n  ({one.finish_reason}) {one.response[:200]!r}" for one in self._unusable)
            raise SamplingError(
                f"{unusable} of {graded} replies are cut by max_tokens (length) or hold no final answer (stop): check "
                f"template, stop strings and MAX_TOKENS, or allow them (allow_unusable). The last of them:{examples}"
            )
