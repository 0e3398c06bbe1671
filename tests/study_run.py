"""The study's driver at a tiny size, for tests that kill it: a stub for the teacher, toy models for the students.

python tests/study_run.py FOLDER WORDS…      as papermill_runs/study/main.py WORDS…, into FOLDER/main

Toy models have the embedded model's tokenizer. Only the first student is really trained (half a minute). KILL_BEFORE
and KILL_WITHIN in the environment name a student before which, or after whose training, the process kills itself.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "papermill_runs" / "study"))

import main
import teacher
import training_toys
from stub_engine import StubEngine

from dartlib.engines import Completion, load_tokenizer
from dartlib.queries import get_template, worked_solution
from dartlib.training import TrainingReport

RIGHT = {1: 0.9, 2: 0.7, 3: 0.6, 4: 0.5, 5: 0.3}


class StepsEngine(StubEngine):
    """Solves a query of the ladder with its level's probability, in one of three wordings."""

    weights = "toy-teacher"

    def __init__(self) -> None:
        super().__init__()
        queries = [query for level in RIGHT for query in teacher.train_queries(level, teacher.POOL_QUERIES)]
        self.asked = {get_template("ladder").render(query.query): query for query in queries}

    async def complete(self, prompt, sampling, seed):
        query, draw = self.asked[prompt], random.Random(f"{prompt}:{seed}")
        solved = draw.random() < RIGHT[query.level]
        text = worked_solution(query.query) if solved else "The answer is 999."
        return Completion(f" {draw.choice(['', 'So. ', 'Well. '])}{text}", "stop", 20, None, 0.0)


def shrink(folder: Path) -> None:
    """A pool of 6 queries a level, 4 students and the base, an item a level, in ``folder``."""
    main.MAIN, teacher.TEACHER, teacher.POOL_QUERIES = folder / "main", folder / "teacher", 6
    main.pilot.MAX_TOKENS = 3  # of answers to the items
    main.IN_DOMAIN = dict.fromkeys(RIGHT, 1)
    main.OUT_OF_DOMAIN = (("arithmetic", 3, 1), ("divisors", 3, 1))
    wanted = {"vrt": (12, 1), "prop2diff": (12, 1), "uniform": (12, 1), "vrt-tokens": (0, 1)}
    main.ARMS = {arm: main.Arm(arm.partition("-")[0], *sizes) for arm, sizes in wanted.items()}
    main.ORDER = (("vrt", "prop2diff", "uniform"), ("vrt-tokens",))
    base = folder / "toy"
    main.resolve_model = lambda name: base
    if not base.exists():
        words = load_tokenizer("embedded")
        ends = {"eos_token_id": words.eos_token_id, "pad_token_id": words.eos_token_id}
        training_toys.model(vocab_size=len(words), **ends).save_pretrained(base)
        words.save_pretrained(base)
    (teacher.TEACHER / "checkpoint").mkdir(parents=True, exist_ok=True)


def copy_base(job, log) -> TrainingReport:
    """What training leaves behind, without training."""
    checkpoint = Path(shutil.copytree(job.base_model, job.checkpoint))
    job.log_file.write_text("{}\n")
    return TrainingReport(1, 1, 12, 0, 900, 500, 4.0, 1.0, 900.0, checkpoint)


@contextmanager
def open_stub(checkpoint: Path):
    yield StepsEngine()


def kill_at_will() -> None:
    make, train = main.make_student, main.train_student

    def make_student(arm: str, replicate: str):
        if os.environ.get("KILL_BEFORE") == f"{arm}-{replicate}":
            os.kill(os.getpid(), signal.SIGKILL)
        return make(arm, replicate)

    def train_student(arm: str, replicate: int, work: Path):
        if (arm, replicate) != ("vrt", 1):
            main.train = copy_base
        made = train(arm, replicate, work)
        if os.environ.get("KILL_WITHIN") == f"{arm}-{replicate}":
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    main.make_student, main.train_student = make_student, train_student


if __name__ == "__main__":
    shrink(Path(sys.argv[1]))
    main.weights_fingerprint = lambda checkpoint: os.environ.get("TEACHER", StepsEngine.weights)
    main.open_vllm = open_stub
    kill_at_will()
    main.main(sys.argv[2:])
