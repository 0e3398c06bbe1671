"""The rules for committed notebooks, as a small linter: file, cell, line, and what is wrong.

`make lint` runs it over notebooks/; a test does too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartlib.pipeline.notebooks import NotebookError, read_notebook, read_parameters, source_of
from dartlib.pipeline.stages import NOTEBOOKS

MAX_LINES = 18  # the aim is 15
MAX_PARAMETERS = 20  # what only some need goes into a recipe, an option or another notebook
_FORBIDDEN_LINE = re.compile(r"\s*(%|!|\?)|.*\bget_ipython\(")


def check_notebooks(paths: Sequence[Path]) -> int:
    """Print every broken rule; 0 when there is none, else 1."""
    problems = [problem for path in paths for problem in lint_notebook(path)]
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(paths)} notebooks checked, {len(problems)} problems")
    return int(bool(problems))


def lint_notebook(path: Path) -> list[str]:
    """All broken rules of one notebook, each as ``file: cell N, line M: what``."""
    try:
        notebook = read_notebook(path)
        parameters = read_parameters(path)
    except NotebookError as error:
        return [str(error)]
    found = [*_whole(notebook), *(problem for problem in _cells(notebook["cells"]))]
    if len(parameters) > MAX_PARAMETERS:
        found.append(f"cell 2, line {MAX_PARAMETERS + 1}: more than {MAX_PARAMETERS} parameters")
    return [f"{path.name}: {problem}" for problem in found]


def _whole(notebook: Mapping[str, Any]) -> Iterator[str]:
    if (notebook.get("nbformat"), notebook.get("nbformat_minor")) < (4, 5):
        yield "format is older than 4.5, which introduced cell ids"
    kernel = notebook.get("metadata", {}).get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"kernelspec is {kernel!r}, expected 'python3'"
    identities = [cell.get("id") for cell in notebook["cells"]]
    if None in identities or len(set(identities)) < len(identities):
        yield "cell ids are missing or repeated"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if "parameters" not in code[0].get("metadata", {}).get("tags", []):
        yield "the parameters cell is not the first code cell"
    if "metrics.json" not in source_of(code[-1]) and "write_metrics" not in source_of(code[-1]):
        yield "the last code cell does not write metrics.json"


def _cells(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code":
            continue
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"cell {number}, line 1: has outputs or an execution count; strip it (nbstripout --keep-id)"
        if number == 1 or cells[number - 2]["cell_type"] != "markdown":
            yield f"cell {number}, line 1: no prose before it"
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            yield from _parameter_lines(number, source_of(cell).splitlines())
        else:
            yield from _code(number, source_of(cell))


def _parameter_lines(number: int, lines: Sequence[str]) -> Iterator[str]:
    for position, line in enumerate(lines, start=1):
        if line.strip() and (line.count("=") != 1 or "#" not in line):
            yield f"cell {number}, line {position}: write NAME: type = literal  # help, with a single '='"


def _code(number: int, source: str) -> Iterator[str]:
    lines = source.splitlines()
    if sum(bool(line.strip()) for line in lines) > MAX_LINES:
        yield f"cell {number}, line {MAX_LINES + 1}: more than {MAX_LINES} lines"
    for position, line in enumerate(lines, start=1):
        if _FORBIDDEN_LINE.match(line):
            yield f"cell {number}, line {position}: no magics or shell escapes ({line.strip()})"
            return
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield f"cell {number}, line {error.lineno}: {error.msg}"
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in [node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names]:
            if name.startswith("dartlib.") and name.count(".") > 1:
                room = ".".join(name.split(".")[:2])
                yield f"cell {number}, line {node.lineno}: import public names from {room}, not from {name}"


if __name__ == "__main__":
    sys.exit(check_notebooks(sorted(NOTEBOOKS.glob("*.ipynb"))))
