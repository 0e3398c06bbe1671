"""The engine loop: synchronous calls from anywhere, and interrupts that wait for cleanup."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dartlib.engines import run


async def double(number: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * number


def test_results_and_errors_come_back() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    assert run(double(4)) == 8
    with pytest.raises(ValueError, match="mine"):
        run(fail())


def test_it_works_inside_a_running_loop_as_in_a_notebook_cell() -> None:
    async def cell() -> int:
        return run(double(5))

    assert asyncio.run(cell()) == 10


def test_all_threads_share_one_loop() -> None:
    async def my_loop() -> int:
        return id(asyncio.get_running_loop())

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(run(my_loop()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_calling_it_from_the_loop_itself_is_refused() -> None:
    async def outer() -> int:
        return run(double(1))

    with pytest.raises(RuntimeError, match="await the coroutine"):
        run(outer())


def test_an_interrupt_cancels_waits_for_cleanup_and_is_raised_again() -> None:
    events: list[str] = []

    async def work() -> None:
        try:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            events.append("cleaned up")
            raise

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(work())
    assert events == ["cleaned up"]
    assert time.monotonic() - started < 5
    assert run(double(2)) == 4  # the loop lives on


def test_a_forked_child_gets_a_loop_of_its_own() -> None:
    code = (
        "import asyncio, os\nfrom dartlib.engines import run\nrun(asyncio.sleep(0))\n"
        "if (child := os.fork()) == 0:\n    run(asyncio.sleep(0)); os._exit(7)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 7
