"""A whole synthesis against the stub engine, small or long, for tests that kill it; also as a script.

python tests/stub_run.py FOLDER [DELAY [FLUSH_SECONDS]]       one run
python tests/stub_run.py FOLDER --kill TIMES SEED             runs, killed so often, then left to finish
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from stub_engine import SAMPLING, TEMPLATE, StubEngine, numbered_queries

from dartlib.sampling import open_pool, runner, shards
from dartlib.synthesis import StrategySettings, synthesize

RATES = [round(0.02 + 0.96 * (n / 59) ** 2, 3) for n in range(60)]
SETTINGS = StrategySettings(("vrt", "uniform", "prop2diff"), 8, 8, 6, 12, 64)


def make(
    folder: Path, slots: int = 16, delay: float = 0.0, timing: int = 0, log=lambda line: None, fault=None, engine=None
):
    """About 2,000 trials: 60 queries, three strategies."""
    return synthesize(
        numbered_queries(RATES),
        engine=engine or StubEngine(slots=slots, delay=delay, timing=timing, fault=fault),
        template=TEMPLATE,
        sampling=SAMPLING,
        sampling_seed=1,
        settings=SETTINGS,
        output_folder=folder,
        rebuild="make again",
        licences={"teacher": "none"},
        log=log,
    )


def digest(folder: Path) -> dict[str, str]:
    """What must not depend on kills: every data set, card and outcome, to the byte."""
    files = [*(folder / "datasets").iterdir(), folder / "outcomes.parquet"]  # leftovers would be found here, too
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def kill_and_resume(folder: Path, times: int, seed: int) -> dict[str, object]:
    """Kill runs at random instants until ``times`` kills hit; a run that ends before its kill starts a new folder.

    After every kill the flushed trials must be there still, unchanged and once.
    """
    choose = random.Random(seed)
    kills = number = 0
    seen: dict[tuple[str, int], str] = {}
    digests = []
    while True:
        place = folder / str(number)
        child = os.fork()
        if child == 0:
            make(place, slots=choose.choice([4, 16, 64]), delay=0.02, timing=kills)
            os._exit(0)
        choose.random()  # the child's own choices do not reach us
        if kills < times:
            time.sleep(choose.uniform(0.02, 0.7))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        rows = pool_rows(place)
        assert all(rows.get(key) == text for key, text in seen.items()), "a flushed trial was lost or changed"
        seen = rows
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "a run failed"
            digests.append(digest(place))
            number, seen = number + 1, {}
            if kills >= times:
                return {"kills": kills, "finished_runs": number, "digests": digests}


def pool_rows(folder: Path) -> dict[tuple[str, int], str]:
    """(query, trial) -> response of every flushed trial; asserts that none is there twice."""
    if not list(folder.glob("pool/*/setting.json")):
        return {}
    rows = open_pool(folder / "pool").trials(["query_id", "trial", "response"]).to_pylist()
    found = {(row["query_id"], row["trial"]): row["response"] for row in rows}
    assert len(found) == len(rows), "a trial is in the pool twice"
    return found


if __name__ == "__main__":
    shards.MERGE_COUNT = 4
    if "--kill" in sys.argv:
        runner.FLUSH_SECONDS = 0.03
        print(json.dumps(kill_and_resume(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        runner.FLUSH_SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 0.05

        def tell(number: int) -> None:
            if number == 2 * 16:  # so many requests in, replies to the first 16 are there
                print("under way", flush=True)

        make(
            Path(sys.argv[1]),
            delay=float(sys.argv[2]) if len(sys.argv) > 2 else 0.0,
            log=lambda line: print(line, flush=True),
            fault=tell,
        )
