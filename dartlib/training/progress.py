"""The training log: one JSON line per optimiser step, and how it is seen while it grows. No torch here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dartlib.files import write_text_atomically
from dartlib.processes import a_person_is_watching
from dartlib.training.config import Job


def read_log(path: Path, steps: int | None = None) -> list[dict[str, Any]]:
    """The lines of a training log up to and including step ``steps``; a line cut short by a kill is left out."""
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(text) for text in whole if text.endswith("\n")][:steps]


def cut_log(path: Path, steps: int) -> list[dict[str, Any]]:
    """Take back what was logged after step ``steps``, for it is done again; returns the lines that stay."""
    lines = read_log(path, steps)
    write_text_atomically(path, "".join(json.dumps(line) + "\n" for line in lines))
    return lines


def progress_log(job: Job) -> Callable[[str], None]:
    """What `train` hands its lines to: in JupyterLab a loss curve that grows, elsewhere plain lines."""
    if not a_person_is_watching():
        return print
    from IPython.display import display
    from matplotlib.figure import Figure

    place = display(display_id=True)

    def show(line: str) -> None:
        if not line.startswith("step "):
            print(line)
            return
        log = read_log(job.log_file)
        figure = Figure(figsize=(7.5, 2.6), layout="constrained")
        axis = figure.subplots()
        axis.plot([entry["step"] for entry in log], [entry["loss"] for entry in log], color="#2166ac")
        axis.set(xlabel="optimiser step", ylabel="loss (nats per token)", title=line, ylim=(0, None))
        place.update(figure)

    return show
