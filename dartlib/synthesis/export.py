"""Data sets as files: Parquet and JSONL, and the front page with which the folder is a data set of the Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from dartlib.files import write_text_atomically
from dartlib.records import SftRow, write_records

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_dataset(stem: Path, rows: Sequence[SftRow]) -> None:
    """``<stem>.parquet`` and ``<stem>.jsonl`` with the same rows; what a killed run left half written goes."""
    for leftover in stem.parent.glob(".*.tmp"):  # everything in this folder may be uploaded
        leftover.unlink()
    write_records(stem.with_suffix(".parquet"), rows, SftRow)
    lines = [json.dumps(asdict(row), ensure_ascii=False) for row in rows]
    write_text_atomically(stem.with_suffix(".jsonl"), "".join(line + "\n" for line in lines))


def write_front_page(folder: Path, strategies: Sequence[str], licences: Mapping[str, str]) -> None:
    """``README.md`` of a folder of data sets: one Hub configuration per strategy, the cards linked.

    The Parquet files are there already. With it ``datasets.load_dataset(folder, strategy)`` works, and so does
    ``hf upload NAME folder . --repo-type dataset``. ``license: other`` points to the licences of queries and
    teacher, which decide what may be done with their offspring.
    """
    import yaml

    rows = {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in strategies}
    total = sum(rows.values())
    front = {
        "license": "other",
        "license_name": "see-licences",
        "license_link": "#licences",
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": ["math", "synthetic", "rejection-sampling", "dart-math"],
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>1M")],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}.parquet"}]} for name in rows
        ],
    }
    cards = "\n".join(f"- [{name}]({name}.md): {count} rows" for name, count in rows.items())
    granted = "\n".join(f"- {what}: {licence}" for what, licence in licences.items())
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# Difficulty-aware synthetic data\n\n{cards}",
        "Columns: `query`, `response`, then `query_id`, `trial` (number of the attempt), `source`, `level`, "
        "`pass_rate` (correct share of the difficulty trials) and `strategy`. Method: arXiv 2407.13690.",
        f"## Licences\n\n{granted}\n",
    ]
    write_text_atomically(folder / "README.md", "\n\n".join(parts))
