"""The line that tells how far sampling is: rates worked out by hand on a clock of ours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dartlib.sampling import progress


def test_time_left_follows_the_rate_of_the_last_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    told = progress.Progress(9, lines.append)
    state = SimpleNamespace(n_finished=2, n_correct=7, trials_known=50, expected_remaining=lambda: 60.0)

    def after(seconds: float, trials: int, tokens: int) -> str:
        clock[0] = 100.0 + seconds
        told.tick(state, trials, tokens)
        return lines[-1]

    assert after(5, 0, 0).endswith("0 tokens/s · no reply yet")
    assert after(10, 1, 20).endswith("time left unknown yet")
    assert after(12, 2, 20) == lines[1], "no new line within five seconds"
    assert after(20, 40, 800) == "sampling: 2/9 queries · 7 correct of 50 trials · 40 tokens/s · about 30 s left"
    assert after(50, 220, 4400).endswith("about 10 s left")  # 180 trials in the last 30 s, 60 to come
    assert after(85, 220, 4400).endswith("time left unknown yet"), "nothing came for 35 s"
