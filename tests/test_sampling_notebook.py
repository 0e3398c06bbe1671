"""Sampling in a real Jupyter kernel: the live widget, the interrupt button, and the headless form of both."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from stub_run import RATES, pool_rows

TESTS = Path(__file__).resolve().parent
pytestmark = pytest.mark.slow
CELL = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
import stub_run
from dartlib.sampling import runner
runner.FLUSH_SECONDS = {flush}
report = stub_run.make(Path({folder!r}), delay={delay}, log=print)
print("finished", report.sampling.finished)
"""


class Notebook:
    """A kernel and what its cells say."""

    def __init__(self, **environment: str) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env={**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", **environment}, cwd=str(TESTS))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)

    def run(
        self, code: str, on_message: Callable[[dict[str, Any]], None] = lambda message: None
    ) -> list[dict[str, Any]]:
        """Execute a cell; every message until the kernel is idle again."""
        request = self.client.execute(code)
        messages = []
        while True:
            message = self.client.get_iopub_msg(timeout=90)
            messages.append(message)
            on_message(message)
            state = message["content"].get("execution_state")
            if state == "idle" and message["parent_header"].get("msg_id") == request:
                return messages

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook() -> Iterator[Callable[..., Notebook]]:
    opened: list[Notebook] = []

    def make(**environment: str) -> Notebook:
        opened.append(Notebook(**environment))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def cell(folder: Path, delay: float, flush: float = 0.05) -> str:
    return CELL.format(root=str(TESTS.parent), tests=str(TESTS), folder=str(folder), delay=delay, flush=flush)


def printed(messages: list[dict[str, Any]]) -> str:
    return "".join(one["content"]["text"] for one in messages if one["msg_type"] == "stream")


def widget_states(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    contents = [one["content"]["data"] for one in messages if one["msg_type"] in ("comm_open", "comm_msg")]
    return [data["state"] for data in contents if "state" in data]


@pytest.mark.parametrize(
    ("stop", "error"),
    [
        (lambda kernel: kernel.manager.interrupt_kernel(), "KeyboardInterrupt"),
        (lambda kernel: kernel.manager.signal_kernel(signal.SIGTERM), "SystemExit"),  # a batch system ends the job
    ],
)
def test_stopping_the_cell_ends_within_three_seconds_and_running_it_again_goes_on(
    notebook, tmp_path: Path, stop: Callable[[Notebook], None], error: str
) -> None:
    kernel = notebook()
    seen: dict[str, float] = {}

    def stop_when_sampling(message: dict[str, Any]) -> None:
        if "value" in message["content"].get("data", {}).get("state", {}) and "begun" not in seen:
            seen["begun"] = time.monotonic()  # the bar is there
        if "begun" in seen and "stopped" not in seen and time.monotonic() - seen["begun"] > 1:
            stop(kernel)
            seen["stopped"] = time.monotonic()

    messages = kernel.run(cell(tmp_path, delay=0.3, flush=1000), stop_when_sampling)
    assert time.monotonic() - seen["stopped"] < 3
    assert [one["content"]["ename"] for one in messages if one["msg_type"] == "error"] == [error]
    kept = pool_rows(tmp_path)
    assert len(kept) >= 16  # nothing had been flushed before
    text = printed(kernel.run(cell(tmp_path, delay=0.0)))
    assert f"going on from {len(kept)} trials" in text and f"finished {len(RATES)}" in text
    assert {key: pool_rows(tmp_path)[key] for key in kept} == kept


def test_an_open_notebook_shows_a_widget_and_the_closing_line(notebook, tmp_path: Path) -> None:
    messages = notebook().run(cell(tmp_path, delay=0.05))
    shown = [one for one in messages if one["msg_type"] == "display_data"]
    assert len(shown) == 1 and "application/vnd.jupyter.widget-view+json" in shown[0]["content"]["data"]
    states = widget_states(messages)
    values = [state["value"] for state in states if isinstance(state.get("value"), int)]
    texts = [state["value"] for state in states if isinstance(state.get("value"), str)]
    assert values[-1] == len(RATES) == next(state["max"] for state in states if "max" in state)
    assert any("tokens/s" in text and "left" in text for text in texts)
    assert printed(messages).count("sampling: ") == 1  # only the closing line, and it is in the cell's output


def test_a_kernel_of_a_headless_run_writes_lines_and_no_widget(notebook, tmp_path: Path) -> None:
    kernel = notebook(DARTLIB_STAGE_MARK="a run's")
    kernel.run("import dartlib.sampling.progress as p; p.SECONDS_BETWEEN_LINES = 0.3")
    messages = kernel.run(cell(tmp_path, delay=0.05))
    assert not [one for one in messages if one["msg_type"] in ("display_data", "comm_open")]
    assert printed(messages).count("sampling: ") >= 3 and "tokens/s · about" in printed(messages)
