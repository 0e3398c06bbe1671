"""All six benchmarks, a few items each, with the embedded model behind vLLM; a test kills it.

python tests/evaluation_run.py FOLDER ITEMS SAMPLES   (DARTLIB_DATA_DIR holds the benchmark files)
"""

from __future__ import annotations

import sys
from pathlib import Path

from dartlib.engines import SamplingParameters, open_engine
from dartlib.evaluation import Result, evaluate
from dartlib.queries import benchmark_names, choose_queries, get_template, load_known_queries


def main(folder: Path, items: int, samples: int) -> Result:
    queries = [
        query
        for name in benchmark_names()
        for query in choose_queries(load_known_queries(name, log=lambda line: None), items, seed=1)
    ]
    with open_engine("vllm", "embedded", log_folder=folder) as engine:
        return evaluate(
            queries,
            engine=engine,
            template=get_template("alpaca"),
            sampling=SamplingParameters(0.7, 1.0, 128),
            output_folder=folder,
            model="embedded",
            samples=samples,
            seed=1,
            allow_unusable=True,
            log=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
