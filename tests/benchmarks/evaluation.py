"""From the command to a table: three benchmarks and four models, against the four stages of commit 5b09f7c.

Both execute their own notebook 04 by papermill, once for each model (the embedded one under four names), with the same
questions, worked examples in the prompt, cap and engine (``local``: a server takes longer to start than so few
questions take). Ours ends with its comparison of all four, with intervals and tests; theirs with the four accuracies.
Needs git with the whole history. About eight minutes on two busy cores without AVX-512.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from _rows import json_path, report, row

ROOT = Path(__file__).resolve().parents[2]
EARLIER = "5b09f7c"
MODELS = ("base", "vrt-seed1", "uniform-seed1", "prop2diff-seed1")
ASKED = {
    "MODEL": "embedded",
    "BENCHMARKS": ["ladder-arithmetic", "ladder-divisors", "ladder-arithmetic-hard"],
    "QUERIES_PER_LEVEL": 2,  # 10 questions each
    "TEMPLATE": "ladder-fewshot",
    "MAX_TOKENS": 64,
    "ENGINE": "local",
}


def execute(root: Path, folder: Path, name: str, **more: object) -> dict[str, object]:
    """Notebook 04 of the checkout ``root`` for one model; returns its metrics."""
    stage = folder / name
    stage.mkdir(parents=True)
    places = {"RUN_FOLDER": str(folder), "STAGE_FOLDER": str(stage), "MODEL_NAME": name}
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(root / "notebooks" / "04_evaluation.ipynb"),
        str(stage / "nb.ipynb"),
    ]
    command += ["-y", json.dumps(ASKED | places | more), "--no-progress-bar"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} of {root.name}: {done.stderr[-2000:]}")
    found: dict[str, object] = json.loads((stage / "metrics.json").read_text(encoding="utf-8"))
    return found


def ours(folder: Path) -> float:
    started = time.monotonic()
    for name in MODELS[:-1]:
        execute(ROOT, folder, name)
    execute(ROOT, folder, MODELS[-1], COMPARE_WITH=[str(folder / name) for name in MODELS[:-1]])
    return time.monotonic() - started


def theirs(root: Path, folder: Path) -> float:
    started = time.monotonic()
    tables = [pd.DataFrame(execute(root, folder, name)["accuracy"]).assign(model=name) for name in MODELS]
    print(pd.concat(tables, ignore_index=True).to_string())
    return time.monotonic() - started


def main() -> None:
    path = json_path(__doc__)
    with tempfile.TemporaryDirectory() as place:
        earlier = Path(place) / "earlier"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "-f", str(earlier), EARLIER], check=True, capture_output=True)
        try:
            seconds = [ours(Path(place) / "ours"), theirs(earlier, Path(place) / "theirs")]
        finally:
            subprocess.run([*git, "remove", "--force", str(earlier)], check=True)
    reference = f"four stages of {EARLIER}"
    report([row("command to table", seconds[0], seconds[1], reference, "s")], path)


if __name__ == "__main__":
    main()
