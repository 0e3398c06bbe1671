"""A synthesis with the embedded model behind vLLM, as a script that a test kills: python tests/vllm_run.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from dartlib.engines import SamplingParameters, open_engine
from dartlib.queries import get_template, load_queries
from dartlib.synthesis import StrategySettings, synthesize

SETTINGS = StrategySettings(("vrt", "uniform", "prop2diff"), 8, 8, 4, 8, 40)


def main(folder: Path) -> None:
    queries = load_queries("ladder-arithmetic", split="train", queries_per_level=6, seed=1)
    with open_engine("vllm", "embedded", log_folder=folder) as engine:
        synthesize(
            queries,
            engine=engine,
            template=get_template("ladder-fewshot"),
            sampling=SamplingParameters(0.8, 1.0, 64),
            sampling_seed=1,
            settings=SETTINGS,
            output_folder=folder,
            rebuild="python tests/vllm_run.py",
            licences={"teacher": "SmolLM2: Apache-2.0"},
            log=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
