"""Going on after a kill: what a run needs to continue as if nothing had happened, kept beside it, whole or absent.

A checkpoint holds fp32 weights and optimiser, the random state of every process, the number of the next step, the
thread count (CPU sums depend on it) and a digest of the plan. Steps and their order need not be stored: they are a
pure function of data and settings, and the digest says that they are the same. The last two are kept.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from dartlib.training.config import Job
from dartlib.training.data import Step
from dartlib.training.models import appears_whole
from dartlib.training.recipe import TrainingError
from dartlib.training.workers import Worker

RESUME_FOLDER = "resume"
_KEPT = 2


@dataclass(frozen=True)
class Checkpoints:
    """A run's checkpoints: in ``folder``, valid for the plan with this ``digest`` only."""

    folder: Path
    digest: str

    def newest(self) -> Path | None:
        """The last whole checkpoint, or None. Raises TrainingError when it belongs to another plan."""
        found = max(self.folder.glob("step-*/state.json"), default=None)  # without one: half deleted
        if found is None:
            return None
        if json.loads(found.read_text(encoding="utf-8"))["digest"] != self.digest:
            raise TrainingError(
                f"{found.parent} is a checkpoint of another plan: data, settings, base model or the way of sharing the "
                f"work changed since. Delete {self.folder} to train from the start, or put back what was changed"
            )
        return found.parent

    def save(self, worker: Worker, step: int) -> None:
        """Keep the state after ``step`` steps. All processes call it; the folder appears when all have written."""
        folder = self.folder / f"step-{step:08d}"
        with appears_whole(folder) if worker.rank == 0 else nullcontext() as place:
            worker.wait()
            place = place or folder.with_name(f".{folder.name}.partial")
            worker.save(place)
            _save_random_state(place, worker)
            state = {"digest": self.digest, "step": step, "threads": torch.get_num_threads()}
            if worker.rank == 0:
                (place / "state.json").write_text(json.dumps(state), encoding="utf-8")
            worker.wait()
        if worker.rank == 0:
            for old in sorted(self.folder.glob("step-*"))[:-_KEPT]:
                shutil.rmtree(old)

    def load(self, worker: Worker, checkpoint: Path) -> int:
        """Take a checkpoint's state into this process; the number of steps done."""
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        torch.set_num_threads(state["threads"])
        worker.load(checkpoint)
        _load_random_state(checkpoint, worker)
        return int(state["step"])


def plan_digest(job: Job, steps: Sequence[Step]) -> str:
    """Identifies what a checkpoint continues: the job, every pack of every step, and how the work is shared."""
    recipe = job.recipe
    shared = f"{recipe.world} {recipe.zero_stage} {recipe.offload} {recipe.attention}"
    plan = hashlib.sha256(f"{job.digest()} {shared}".encode())
    for step in steps:
        plan.update(f"{step.epoch} {step.packs}".encode())
    return plan.hexdigest()


def _save_random_state(folder: Path, worker: Worker) -> None:
    cuda = torch.cuda.get_rng_state(worker.device) if worker.device.type == "cuda" else None
    torch.save({"cpu": torch.get_rng_state(), "cuda": cuda}, folder / f"random-{worker.rank}.pt")


def _load_random_state(folder: Path, worker: Worker) -> None:
    states = torch.load(folder / f"random-{worker.rank}.pt", weights_only=True)
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], worker.device)
