"""Verdicts, and workers that can hang, crash or lose their parent without harm."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from grading_in_process import grade_response

from dartlib.grading import GRADER_VERSION, GradingError, GradingPool
from dartlib.grading.equality.comparison import Pair
from dartlib.grading.verdicts import Graded
from dartlib.records import Query, Verdict


def _query(reference: str, **fields: object) -> Query:
    return Query(query_id="q", source="test", query="?", reference_answer=reference, **fields)  # type: ignore[arg-type]


SLOW = (_query("\\sqrt{8}"), "\\boxed{2\\sqrt{2}}", "stop")  # only SymPy can tell
SLOW_GRADE = ("2\\sqrt{2}", Verdict.CORRECT, "symbolic")
VERDICTS = [
    ("4", "2 + 2 = 4. The answer is 4.", "stop", ("4", Verdict.CORRECT, "string")),
    ("4", "The answer is 4.0.", "stop", ("4.0", Verdict.CORRECT, "number")),
    ("4", "The answer is 5.", "stop", ("5", Verdict.WRONG, "number")),
    ("4", "It is 4.", "stop", (None, Verdict.NO_ANSWER, "no_final_answer")),
    ("4", "\\boxed{4} and so on", "length", (None, Verdict.NO_ANSWER, "length")),
    ("x+1", "\\boxed{1+x}", "stop", ("1+x", Verdict.CORRECT, "formula")),
    ("x+1", "\\boxed{x+2}", "stop", ("x+2", Verdict.WRONG, "formula")),
    ("x+1", "\\boxed{\\frac{}", "stop", (None, Verdict.NO_ANSWER, "no_final_answer")),
    ("4", "\\boxed{9^{9^{9^{9}}}}", "stop", ("9^{9^{9^{9}}}", Verdict.WRONG, "limit:tower")),
]


@pytest.mark.parametrize(("reference", "response", "finish_reason", "graded"), VERDICTS)
def test_verdict_and_reason(reference: str, response: str, finish_reason: str, graded: Graded) -> None:
    found = grade_response(
        reference_answer=reference,
        answer_type="number",
        tolerance=None,
        response=response,
        finish_reason=finish_reason,
    )
    assert found == graded


def test_pool_agrees_with_grading_in_process_and_keeps_order() -> None:
    items = [(_query(reference), response, reason) for reference, response, reason, _ in VERDICTS]
    with GradingPool(workers=2) as pool:
        assert pool.grade_many(items * 5) == [graded for *_, graded in VERDICTS] * 5


def test_type_and_tolerance_of_the_query_count() -> None:
    with GradingPool() as pool:
        words, close, far = pool.grade_many(
            [
                (_query("x+1", answer_type="text"), "\\boxed{2+x}", "stop"),
                (_query("3.14", tolerance=0.01), "\\boxed{\\pi}", "stop"),
                (_query("3.14"), "\\boxed{\\pi}", "stop"),
            ]
        )
    assert [words[1], close[1], far[1]] == [Verdict.WRONG, Verdict.CORRECT, Verdict.WRONG]


def test_strings_and_numbers_need_no_worker() -> None:
    with GradingPool() as pool:
        pool.grade_many([(_query("4"), f"The answer is {n}.", "stop") for n in range(100)])
        assert not _children()


@pytest.mark.parametrize("hang", [f"\\int {tower} dx" for tower in ("9^{9^{9^{9}}}", "(10^8)!", "1/9999999999!")])
def test_a_hang_costs_one_item(hang: str) -> None:
    """Past the limits on purpose: the worker itself must survive what they miss."""
    with GradingPool(seconds_per_item=0.5) as pool:
        assert pool.grade_many([SLOW]) == [SLOW_GRADE]
        start = time.monotonic()
        assert pool._workers[0].compare([Pair(hang, "9")]) == [(Verdict.TIMEOUT, "seconds")]
        assert time.monotonic() - start < 10  # 0.5 s of CPU time; the rest allows for a busy machine
        assert pool.grade_many([SLOW]) == [SLOW_GRADE]


def test_a_batch_longer_than_the_pipe_waits_for_no_item_that_hangs() -> None:
    """16 pairs with queries of 20,000 characters are more than a pipe holds, and the first is never read to its end."""
    query = "Which number is it? " * 1000
    slow = Pair("\\sqrt{8}", "2\\sqrt{2}", None, query)
    with GradingPool(seconds_per_item=0.5) as pool:
        found = pool._workers[0].compare([Pair("\\int (10^8)! dx", "9", None, query), *[slow] * 15])
    assert found == [(Verdict.TIMEOUT, "seconds"), *[(Verdict.CORRECT, "symbolic")] * 15]


def test_a_crash_costs_one_item() -> None:
    with GradingPool() as pool:
        assert pool.grade_many([SLOW]) == [SLOW_GRADE]
        (child,) = _children()
        os.kill(child.pid, signal.SIGSTOP)  # so that it dies with the item in hand
        threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL)).start()
        other = (_query("\\sqrt{18}"), "\\boxed{3\\sqrt{2}}", "stop")  # not yet settled
        assert pool.grade_many([other]) == [("3\\sqrt{2}", Verdict.TIMEOUT, "crash")]
        assert pool.grade_many([SLOW]) == [SLOW_GRADE]


def test_memory_is_limited_to_one_gigabyte_more_than_the_imports() -> None:
    code = "from dartlib.grading.worker import _limit_memory as f; f(); bytearray(3 << 28); bytearray(5 << 28)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_root())
    assert done.returncode == 1 and done.stderr.strip().endswith("MemoryError")


def test_works_under_a_running_loop_from_a_thread_and_in_parallel() -> None:
    async def grade_all(pool: GradingPool) -> list[Graded]:
        return await asyncio.gather(*(pool.grade(*SLOW) for _ in range(20)))

    results: list[Graded] = []
    with GradingPool(workers=2) as pool:
        thread = threading.Thread(target=lambda: results.extend(asyncio.run(grade_all(pool))))
        thread.start()
        results += asyncio.run(grade_all(pool))
        thread.join()
    assert results == [SLOW_GRADE] * 40


def test_grading_without_async_inside_a_running_loop() -> None:
    """As ``explain`` does in a notebook, whose kernel runs one."""

    async def cell() -> list[Graded]:
        with GradingPool() as pool:
            return pool.grade_many([SLOW])

    assert asyncio.run(cell()) == [SLOW_GRADE]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_works_in_a_daemonic_process_of_a_program_without_a_file(method: str) -> None:
    """Daemons may not have children by ``multiprocessing``, and ``python -c`` has no ``__main__`` to import."""
    code = f"""
import multiprocessing
from dartlib.grading import explain
context = multiprocessing.get_context("{method}")
with context.Pool(2) as pool:  # daemons
    texts = ["\\\\boxed{{2\\\\sqrt{{2}}}}", "\\\\boxed{{3\\\\sqrt{{2}}}}"]
    calls = [pool.apply_async(explain, kwds=dict(gold="\\\\sqrt{{8}}", response=text)) for text in texts]
    print([call.get(120).reason for call in calls])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_root(), timeout=200)
    assert done.stdout == "['symbolic', 'formula']\n", done.stderr


@pytest.mark.slow
def test_works_in_the_workers_of_xdist_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "test_side.py").write_text(f"""
import os
import pytest
from dartlib.grading import explain

@pytest.mark.parametrize("number", range(4))
def test_one(number):
    assert os.environ["PYTEST_XDIST_WORKER"] in ("gw0", "gw1")
    assert explain(gold={SLOW[0].reference_answer!r}, response={SLOW[1]!r}).reason == "symbolic"
""")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(_root())}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=250)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_close_leaves_no_process_and_ends_a_busy_worker_at_once() -> None:
    pool = GradingPool(seconds_per_item=60)
    pool.grade_many([SLOW])
    failed: list[BaseException] = []

    def hang() -> None:
        try:
            pool._workers[0].compare([Pair("\\int 9^{9^{9^{9}}} dx", "9")])
        except GradingError as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.3)
    start = time.monotonic()
    pool.close()
    pool.close()
    thread.join(5)
    assert time.monotonic() - start < 5 and len(failed) == 1
    assert not _children()


@pytest.mark.parametrize("gold", ["\\\\sqrt{8}", "\\\\int 9^{9^{9^{9}}} dx"])
def test_workers_die_with_a_killed_parent(gold: str) -> None:
    """Idle or busy, and from a program without an importable ``__main__`` (as in a notebook kernel)."""
    code = f"""
import psutil, threading, time
from dartlib.grading import GradingPool
from dartlib.grading.equality.comparison import Pair
pool = GradingPool(seconds_per_item=1)
worker = pool._workers[0]
worker.compare([Pair("\\\\sqrt{{8}}", "2")])
print(psutil.Process().children()[0].pid, flush=True)
threading.Thread(target=worker.compare, args=([Pair("{gold}", "2")],), daemon=True).start()
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_root())
    assert parent.stdin is not None and parent.stdout is not None
    with parent:
        parent.stdin.write(code.encode())
        parent.stdin.close()
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.2)
        parent.kill()
    gone, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('no grader here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with GradingPool() as pool, pytest.raises(GradingError, match="did not start: ImportError: no grader here"):
        pool.grade_many([SLOW])


def test_grader_version_names_the_installed_math_verify() -> None:
    assert GRADER_VERSION.endswith(f"math-verify-{importlib.metadata.version('math-verify')}")


def test_importing_the_room_stays_light() -> None:
    heavy = {"sympy", "torch", "datasets", "transformers"}
    code = f"import sys, dartlib.grading, dartlib.queries; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_root(), check=True)
    assert done.stdout.strip() == "set()"


def _children() -> list[psutil.Process]:
    """The grading workers of this process; earlier tests may have left helpers of other libraries."""
    return [child for child in psutil.Process().children() if any("dartlib.grading" in a for a in child.cmdline())]


def _root() -> Path:
    return Path(__file__).resolve().parents[1]
