"""The child that runs SymPy: one JSON line in ([gold, pred, tolerance, query, answer type]), one out ([equal, reason]).

It is meant to be killed. Each item has a CPU-time limit that the operating system enforces (a signal whose
default action ends the process, even inside a long integer power where Python code gets no turn) and memory
is limited to what the imports took plus 1 GiB. It ends when its input does, so it never outlives its parent
by more than one item.
"""

import json
import logging
import os
import resource
import signal
import sys

from dartlib.grading.equality.comparison import Pair, compare_symbolic
from dartlib.grading.equality.symbolic import equal_texts

EXTRA_MEMORY = 1 << 30  # bytes of address space beyond what the imports need (libraries map far more than they use)


def main(seconds_per_item: float) -> None:
    """Serve until the input ends. Parsers may print: their output must not reach the replies."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.CRITICAL)
    compare_symbolic(Pair("\\sqrt{8}", "2\\sqrt{2}"))  # imports and builds the parsers: before the limits
    equal_texts("\\int x dx", "\\int y dy")
    _limit_memory()
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        pair = Pair(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, seconds_per_item)
        reply = _compare(pair)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=replies, flush=True)


def _compare(pair: Pair) -> tuple[bool | None, str]:
    """[equal, reason]; equal is None where the limits gave out."""
    try:
        comparison = compare_symbolic(pair)
    except MemoryError:
        return None, "memory"
    except Exception:  # any failure of a parser on hostile text means: not shown to be equal
        return False, "unparsed"
    return comparison.equal, comparison.reason


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as handle:
        pages = int(handle.read().split()[0])
    limit = pages * resource.getpagesize() + EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(float(sys.argv[1]))
