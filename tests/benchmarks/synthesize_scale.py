"""From a pool to data sets: time and peak memory of what `synthesize` does behind the sampling, and their growth.

15,000 queries, responses of 1 kB, a pool made here (not sampled) as a run leaves it. A process of its own writes
``samples.parquet`` and cuts three data sets with the paper's numbers and their cards from it; another one does so at
half the trials, for the growth per million. ``--trials 5000000`` is made once, and needs some minutes and 20 GB of disk
below TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _rows import report, row
from pool import fill, queries

from dartlib.grading import GRADER_VERSION
from dartlib.sampling import open_pool
from dartlib.synthesis import StrategyPolicy, StrategySettings
from dartlib.synthesis.card import CardTexts
from dartlib.synthesis.synthesize import write_datasets

TRIALS, QUERIES, WORDS = 500_000, 15_000, 143
LIMITS = {"peak_gb": (4.0, "GB")}


def cut(folder: Path) -> dict[str, float]:
    """In a fresh process: seconds and peak memory on the way from the pool to the data sets."""
    asked, started = queries(QUERIES), time.monotonic()
    pool = open_pool(folder / "pool")
    rows = pool.write_samples(folder / "samples.parquet", asked, GRADER_VERSION)
    found = {"samples_seconds": time.monotonic() - started}
    cap = rows // QUERIES  # trials of every query
    settings = StrategySettings(("vrt", "uniform", "prop2diff"), 16, min(52, cap), 40, 192, cap)
    made, outcomes = write_datasets(folder, asked, StrategyPolicy(settings), CardTexts("bench", {}, {}))
    found["seconds"] = time.monotonic() - started
    found["cpu_seconds"] = time.process_time()
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    right = pool.samples(
        asked, GRADER_VERSION, columns=["trial"], where=f"verdict == 'correct' and trial < {min(52, cap)}"
    )
    assert made["vrt"] == len(right) and len(outcomes) == 3 * QUERIES, "another way to count says otherwise"
    return found | {f"rows_{strategy}": count for strategy, count in made.items()}


def measure(trials: int) -> dict[str, float]:
    """Make a pool of so many trials, and cut it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pool").mkdir()
        fill(Path(folder) / "pool", trials, queries(QUERIES), GRADER_VERSION, 200_000, WORDS)
        command = [sys.executable, __file__, "--cut", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(done.returncode)
        sizes = sum(path.stat().st_size for path in Path(folder).rglob("*.*"))
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()
    return json.loads(done.stdout.splitlines()[-1]) | {"disk_gb": sizes / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--cut", type=Path, help=argparse.SUPPRESS)  # the child process
    options = parser.parse_args()
    if options.cut:
        print(json.dumps(cut(options.cut)))
        return
    half = measure(options.trials // 2) if options.trials <= TRIALS else {}
    found = measure(options.trials)
    rows = [row("trials", options.trials, None, None, "trials")]
    for name, value in found.items():
        limit, unit = LIMITS.get(name, (None, "GB" if "gb" in name else "s" if "seconds" in name else "rows"))
        rows.append(row(name, value, limit, "limit" if limit else None, unit))
        if half and name in ("seconds", "peak_gb"):
            growth = (value - half[name]) / (options.trials / 2) * 1e6
            rows.append(row(f"{name}_per_million", growth, None, None, unit))
    report(rows, options.json)


if __name__ == "__main__":
    main()
