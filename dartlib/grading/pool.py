"""Grading in worker processes that can be killed, so that no answer can stop or crash a run.

Most answers are settled here by text, numbers and structure; only the rest visits a worker, in batches that are
streamed to it, and a pair that was settled once is not compared again. Workers start when first needed, as plain
children with pipes: no fork of the caller and no import of its ``__main__``, so a notebook kernel, a thread and a
running event loop are all fine places to grade from.
"""

import asyncio
import contextlib
import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from dartlib.grading.equality.comparison import Comparison, Pair, compare_fast
from dartlib.grading.verdicts import GRADER_VERSION, LENIENT_GRADER_VERSION, Graded, read_response, verdict_of
from dartlib.records import Query, Verdict

SECONDS_TO_START = 120.0  # imports on a busy machine
BATCH = 16  # items sent to a worker before the first reply is read: fits into a pipe
REMEMBERED = 100_000  # settled pairs kept; then the memory starts afresh
WALL_PER_CPU_SECOND = 15.0  # the item's limit is CPU time, so that a busy machine changes no verdict; this is the net


class GradingError(RuntimeError):
    """The grader itself cannot run (its worker does not start)."""


class GradingPool:
    """Grades responses with at most ``workers`` processes; an item gets ``seconds_per_item`` of CPU time.

    ``lenient`` also takes the last number of a response for its answer; ``version`` names what grades. A context
    manager; ``close`` leaves no process behind. Safe to use from several threads.
    """

    def __init__(self, workers: int = 1, seconds_per_item: float = 2.0, *, lenient: bool = False) -> None:
        if workers < 1 or seconds_per_item <= 0:
            raise ValueError("GradingPool needs at least one worker and a positive time per item")
        self._seconds = seconds_per_item
        self._lenient = lenient
        self.version = LENIENT_GRADER_VERSION if lenient else GRADER_VERSION
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(_Worker(seconds_per_item))
        self._workers = list(self._idle.queue)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grading")
        self._settled: dict[Pair, tuple[Verdict, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def grade(self, query: Query, response: str, finish_reason: str) -> Graded:
        """(extracted answer, verdict, reason) of one response, without blocking the event loop."""
        answer, decided = self._read(query, response, finish_reason)
        if isinstance(decided, Pair):
            loop = asyncio.get_running_loop()
            (decided,) = await loop.run_in_executor(self._threads, self._compare, [decided])
        return answer, *decided

    def grade_many(self, items: Iterable[tuple[Query, str, str]]) -> list[Graded]:
        """Grade (query, response, finish_reason) triples, in order."""
        read = [self._read(*item) for item in items]
        settled = self._settle([decided for _, decided in read])
        return [(answer, *verdict) for (answer, _), verdict in zip(read, settled, strict=True)]

    def equal_many(self, answers: Iterable[tuple[str, str]]) -> list[bool]:
        """Whether each two answers are the same, the first taken for the reference, without a query's rules or bounds.

        Where comparing hangs they are not.
        """
        read = []
        for gold, pred in answers:
            pair = Pair(gold, pred)
            found = compare_fast(pair)
            read.append(verdict_of(found) if found else self._settled.get(pair, pair))
        return [verdict is Verdict.CORRECT for verdict, _ in self._settle(read)]

    def _settle(self, decided: Sequence[tuple[Verdict, str] | Pair]) -> list[tuple[Verdict, str]]:
        """Verdicts in order: pairs are compared by the workers, each once."""
        pairs = list(dict.fromkeys(each for each in decided if isinstance(each, Pair)))
        batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
        compared = dict(
            zip(pairs, itertools.chain.from_iterable(self._threads.map(self._compare, batches)), strict=True)
        )
        return [compared[each] if isinstance(each, Pair) else each for each in decided]

    def close(self) -> None:
        """End all workers, also busy ones; items still waiting are dropped. Safe to call twice."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.end()

    def _read(self, query: Query, response: str, finish_reason: str) -> tuple[str | None, tuple[Verdict, str] | Pair]:
        """The answer with its verdict, or with the pair that a worker must compare."""
        answer, decided = read_response(query, response, finish_reason, lenient=self._lenient)
        return answer, self._settled.get(decided, decided) if isinstance(decided, Pair) else decided

    def _compare(self, pairs: Sequence[Pair]) -> list[tuple[Verdict, str]]:
        worker = self._idle.get()
        try:
            verdicts = worker.compare(pairs)
        finally:
            self._idle.put(worker)
        if len(self._settled) > REMEMBERED:
            self._settled.clear()
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if verdict[0] is not Verdict.TIMEOUT:  # a crash may have come from outside
                self._settled[pair] = verdict
        return verdicts


class _Worker:
    """One child process, started when needed and again after its death."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None

    def compare(self, pairs: Sequence[Pair]) -> list[tuple[Verdict, str]]:
        """Verdicts in order; a hang or crash costs its own item only, the rest goes to a fresh process."""
        verdicts: list[tuple[Verdict, str]] = []
        while len(verdicts) < len(pairs):
            verdicts += self._stream(pairs[len(verdicts) :])
        return verdicts

    def _stream(self, pairs: Sequence[Pair]) -> Iterator[tuple[Verdict, str]]:
        """Replies to the pairs sent, up to and including the first that ends the process."""
        process = self._process or self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died early: its last replies are still to be read
            process.stdin.write(b"".join(json.dumps(pair).encode() + b"\n" for pair in pairs))
            process.stdin.flush()
        for _ in pairs:
            try:
                reply = _read_line(process, self._seconds * WALL_PER_CPU_SECOND)
            except TimeoutError:
                self.end()
                yield Verdict.TIMEOUT, "seconds"
                return
            if self._closed:
                raise GradingError("the GradingPool was closed while an answer was being compared")
            if not reply:
                yield Verdict.TIMEOUT, "seconds" if self.end() == -signal.SIGPROF else "crash"
                return
            equal, reason = json.loads(reply)
            yield (Verdict.TIMEOUT, reason) if equal is None else verdict_of(Comparison(equal, reason))

    def kill(self) -> None:
        """End the child for good; a thread that waits for its reply raises GradingError."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise GradingError("this GradingPool is closed")
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with tempfile.TemporaryFile() as errors:
            # A session of its own: interrupting a notebook cell signals the kernel's whole group.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dartlib.grading.worker", str(self._seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
            self._process = process
            try:
                ready = not self._closed and _read_line(process, SECONDS_TO_START) == b"ready\n"
            except TimeoutError:
                ready = False
            if not ready:
                self.end()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise GradingError(f"the grading worker did not start: {said[-1] if said else 'no message'}")
        return process

    def end(self) -> int | None:
        """Kill the child, if any; its exit code tells whether something else had ended it before."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # an unsent line of a dead child
                pipe.close()
        return code


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """One line of the child's output; empty when it died, TimeoutError when nothing came in time."""
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    if not poll.poll(1000 * seconds):
        raise TimeoutError
    line = bytearray()
    with contextlib.suppress(ValueError):  # the pool was closed meanwhile, and the pipe with it
        while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):  # poll sees the rest
            line += byte
    return bytes(line)
