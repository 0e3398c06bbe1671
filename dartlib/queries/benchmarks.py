"""What is particular to benchmarks: the prompt each question gets, which of its items are broken, and parts of it.

Students are asked without examples, in the prompt they were trained with. Base models see worked examples in the form
``qa``, four of them (five for TheoremQA) as in the paper, from exemplars.yaml. Every model gets OlympiadBench's own
instruction with OlympiadBench's questions.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from dartlib.files import text_digest
from dartlib.queries.templates import Template
from dartlib.records import Query

_OLYMPIAD = "olympiadbench-math"
# From OpenBMB/OlympiadBench, inference/code/evaluators/evaluator.py, word for word: it is part of the benchmark.
_KINDS = {"Numerical": "a numerical value", "Expression": "an expression", "Interval": "an interval"}


def benchmark_shots(benchmark: str, template: Template) -> int:
    """Worked examples in the paper's protocol: all that there are for ``qa``, none in any other template."""
    return len(_exemplars(benchmark)) if template.name == "qa" else 0


def benchmark_template(query: Query, template: Template) -> Template:
    """``template`` as this question gets it: worked examples before it, and the benchmark's instruction."""
    shown = ""
    for example in _exemplars(query.source)[: benchmark_shots(query.source, template)]:
        instruction, ending = "", f"The answer is {example['answer']}."
        if query.source == _OLYMPIAD:
            instruction = _olympiad_instruction({"stated_type": example["type"]})
            ending = f"So the final answer is \\boxed{{{example['answer'].strip('$')}}}."
        asked = template.before + instruction + example["question"] + template.after
        shown += f"{asked}{example['work']} {ending}\n\n"
    instruction = _olympiad_instruction(json.loads(query.metadata)) if query.source == _OLYMPIAD else ""
    return replace(template, before=shown + template.before + instruction)


def _olympiad_instruction(about: Mapping[str, Any]) -> str:
    """The instruction before a question, from the item's type of answer, number of answers and unit."""
    kind, several, unit = _KINDS.get(about.get("stated_type", "")), about.get("several", False), about.get("unit")
    wanted = ""
    if kind:
        wanted = "The problem has multiple answers, each of them" if several else "The answer of The problem"
        wanted += f" should be {kind}. "
    box = "\\boxed{multiple answers connected with commas}" if several else "\\boxed{answer}"
    note = ", note that the unit of the answer should not be included in \\boxed{}" if unit else ""
    return (
        f"The following is an open-ended problem from an International Math competition. {wanted}Please calculate the "
        "answer according to the given requirements and the information provided. Please use LaTeX format to represent "
        'the variables and formulas used in the solution process and results. Please end your solution with "So the '
        f'final answer is {box}{"(unit)" if unit else ""}." and give the result explicitly{note}.\n'
    )


@cache
def _exemplars(benchmark: str) -> Sequence[Mapping[str, str]]:
    """Worked examples: ``question``, ``work``, ``answer`` and ``type`` (of the answer)."""
    values = yaml.safe_load(files(__package__).joinpath("exemplars.yaml").read_text(encoding="utf-8"))
    examples: Sequence[Mapping[str, str]] = values[values["used_for"].get(benchmark, "math")]
    return examples


@cache
def broken_items() -> Mapping[str, str]:
    """Benchmark items known to be broken, from broken_items.csv: ``query_id`` -> why. They are counted apart."""
    with files(__package__).joinpath("broken_items.csv").open("r", encoding="utf-8") as handle:
        return {row["query_id"]: row["reason"] for row in csv.DictReader(handle)}


def choose_queries(queries: Sequence[Query], count: int, seed: int) -> list[Query]:
    """``count`` of the queries (all when 0, or when there are fewer), drawn by seed and id, in their own order.

    A smaller number gives a part of a larger one's queries.
    """
    drawn = sorted(queries, key=lambda query: text_digest(f"{seed}:{query.query_id}"))
    chosen = {query.query_id for query in drawn[: count or len(drawn)]}
    return [query for query in queries if query.query_id in chosen]
