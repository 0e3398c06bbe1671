"""What the benchmarks of scheduler and stopping share: rows, their printing, and the paper's simulated teacher."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dartlib.lab import calibrated_pass_rates

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what tests and benchmarks share

from paper_calibration import calibrated_lengths  # noqa: E402
from simulated_run import TimedTeacher  # noqa: E402

SEED = 20240618


def row(metric: str, ours: float, reference: float | None, reference_name: str | None, unit: str) -> dict[str, Any]:
    """One measured number beside what it is compared with."""
    ratio = ours / reference if reference else None
    return {
        "metric": metric,
        "ours": ours,
        "reference": reference,
        "reference_name": reference_name,
        "ratio": ratio,
        "unit": unit,
    }


def report(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print the rows, and write them as JSON where a path is given."""
    for each in rows:
        compared = f"{each['reference']:>14,.4f} {each['reference_name']}" if each["reference"] is not None else ""
        ratio = f"x {each['ratio']:.4f}" if each["ratio"] else ""
        print(f"{each['metric']:34} {each['ours']:>14,.4f} {each['unit']:10} {compared} {ratio}")
    if path:
        path.write_text(json.dumps(rows, indent=2) + "\n")


def json_path(description: str | None) -> Path | None:
    """The one option of a benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the rows here")
    return parser.parse_args().json


def paper_teacher(cap: int, queries: int | None = None, seed: int = SEED) -> TimedTeacher:
    """The calibrated queries, hardest first (or so many of them, evenly spread), with draws up to ``cap``."""
    rates = calibrated_pass_rates()
    lengths = calibrated_lengths(rates)
    count = queries or len(rates)
    chosen = ((np.arange(count) + 0.5) * len(rates) / count).astype(int)
    names = [f"rank{number + 1:05d}" for number in chosen]
    return TimedTeacher(
        pass_rates=dict(zip(names, rates[chosen].tolist(), strict=True)),
        mean_tokens=dict(zip(names, lengths[chosen].tolist(), strict=True)),
        trials=cap,
        seed=seed,
    )
