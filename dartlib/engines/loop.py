"""One event loop in a daemon thread, so that public calls are synchronous everywhere, notebook cells included."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run ``coroutine`` on the process's engine loop and return its result, or raise what it raised.

    It may be called from any thread but the loop's own. KeyboardInterrupt in the calling thread, or whatever else
    a signal raises there, cancels the coroutine, waits until its cleanup is done, and is raised again; a second one
    gives up waiting.
    """
    loop = _running_loop()
    if asyncio._get_running_loop() is loop:
        coroutine.close()
        raise RuntimeError("run() was called from the engine loop itself: await the coroutine instead")
    tasks: list[asyncio.Task[Result]] = []
    done = threading.Event()

    def start() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(lambda _: done.set())

    loop.call_soon_threadsafe(start)
    try:
        done.wait()
    except BaseException:
        loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        done.wait()
        raise
    return tasks[0].result()


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="dartlib-engines", daemon=True).start()
        return _loop


def _forget_loop() -> None:
    """A forked child has the loop object but not its thread: it starts its own."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_loop)
