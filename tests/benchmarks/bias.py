"""Bias statistics of a large set: `make bench NAME=bias`. Seconds and peak memory of ours and of plain pandas.

A set of 2.3 million responses of 1 kB to 14,973 queries (as many as MATH and GSM8K train have) is written once as
Parquet; counts per query follow VRT with 200 trials on a spread of pass rates, one response in fifty repeats the one
before. Each side runs in a process of its own on the same file, once the file is in the page cache; "seconds" leaves
out the imports, "cpu_seconds" tells what a busy machine added. Ours gives more (bands, matching of the queries, Wilson
intervals); the counts of both must agree.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS, QUERIES, WORDS = 2_300_000, 14_973, 143  # 143 words of 6 letters and a space: 1,001 characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--side", choices=("ours", "pandas"))
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.side:
        measure(options.side, options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "set.parquet"
        make_set(file, options.rows)
        ours, theirs = (run_side(side, file) for side in ("ours", "pandas"))
    assert ours["check"] == theirs["check"], (ours["check"], theirs["check"])
    rows = []
    for metric, unit in (("seconds", "s"), ("cpu_seconds", "s"), ("peak_gb", "GB")):
        ratio = theirs[metric] / ours[metric]
        row = {"metric": metric, "ours": ours[metric], "reference": theirs[metric], "reference_name": "pandas"}
        rows.append(row | {"ratio": round(ratio, 2), "unit": unit})
        print(f"{metric:<12} ours {ours[metric]:>7.2f} {unit:<2} pandas {theirs[metric]:>7.2f} {unit:<2} {ratio:.1f} x")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def asked() -> list[dict[str, Any]]:
    """The queries: texts of about a hundred characters and levels in MATH's proportions."""
    levels = np.repeat([1, 2, 3, 4, 5], [1128, 2693, 3178, 3374, 4600])
    words = "find the value of a sum when every term is taken twice and the last one three times"
    return [{"query": f"Problem {i}: {words} {i % 97}?", "level": int(level)} for i, level in enumerate(levels)]


def make_set(file: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    letters = generator.integers(97, 123, size=(4096, 7), dtype=np.uint8)
    letters[:, 6] = ord(" ")
    questions = pa.array([row["query"] for row in asked()])
    rates = generator.beta(0.8, 0.6, QUERIES)
    owner = generator.choice(QUERIES, size=rows, p=rates / rates.sum())
    schema = pa.schema([("query", pa.string()), ("response", pa.string())])
    with pq.ParquetWriter(file, schema, compression="snappy") as writer:
        for start in range(0, rows, 50_000):
            part = np.sort(owner[start : start + 50_000])
            text = letters[generator.integers(4096, size=(len(part), WORDS))].reshape(len(part), -1)
            text[1::50] = text[0 : len(text[1::50]) * 50 : 50]
            offsets = pa.array(np.arange(len(part) + 1, dtype=np.int32) * text.shape[1])
            responses = pa.StringArray.from_buffers(len(part), offsets.buffers()[1], pa.py_buffer(text.tobytes()))
            writer.write_table(pa.table([questions.take(pa.array(part)), responses], schema=schema))


def run_side(side: str, file: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(side: str, file: Path) -> None:
    run = with_dartlib if side == "ours" else with_pandas
    with open(file, "rb") as handle:  # into the page cache
        while handle.read(1 << 24):
            pass
    import_side(side)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    check = run(file)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    values = {"seconds": seconds, "cpu_seconds": cpu, "peak_gb": used.ru_maxrss / 1e6}
    print(json.dumps({name: round(value, 2) for name, value in values.items()} | {"check": check}))


def import_side(side: str) -> None:
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    if side == "ours":
        import duckdb  # noqa: F401

        import dartlib.analysis  # noqa: F401


def with_dartlib(file: Path) -> list[float]:
    """Everything the notebook shows of a set but token counts."""
    from dartlib import analysis
    from dartlib.records import make_queries

    queries = make_queries([{**row, "reference_answer": "1"} for row in asked()], source="bench", version="1")
    found = analysis.read_responses(file, asked=queries)
    bias, made_of = analysis.bias_table(found.outcomes), analysis.composition_table(found.outcomes)
    summary, _ = analysis.bias_summary(found.outcomes), analysis.rank_table(found.outcomes)
    return [*bias["coverage"].round(9), *made_of["share"].round(9), round(float(summary.loc[0, "gini"]), 9),
            *made_of["characters"].round(6), round(float(made_of["repeats"].iloc[-1]), 9)]  # fmt: skip


def with_pandas(file: Path) -> list[float]:
    """The same numbers, without intervals, in the plainest way."""
    import pandas as pd

    frame = pd.read_parquet(file)
    frame["query"] = frame["query"].str.strip()
    frame["characters"] = frame["response"].str.len()
    frame["repeated"] = frame.duplicated(["query", "response"])
    queries = pd.DataFrame(asked())
    frame = frame.merge(queries, on="query", how="left")
    counts = frame.groupby("query").size()
    queries["n"] = queries["query"].map(counts).fillna(0)
    coverage = queries.assign(covered=queries["n"] > 0).groupby("level")["covered"].mean()
    by_level = frame.groupby("level")
    share = by_level.size() / len(frame)
    ordered = queries["n"].sort_values().to_numpy()
    n = len(ordered)
    gini = 2 * (np.arange(1, n + 1) * ordered).sum() / (n * ordered.sum()) - (n + 1) / n
    queries["rank"] = queries["n"].rank(method="first")
    return [*coverage.round(9), *share.round(9), round(float(gini), 9), *by_level["characters"].mean().round(6),
            round(float(by_level["repeated"].mean().iloc[-1]), 9)]  # fmt: skip


if __name__ == "__main__":
    main()
