"""Notebooks as programs: the parameters a notebook declares, and the checks before a kernel may start.

Parameters are read from the syntax tree of the one cell tagged ``parameters``; papermill's own inspection says the
same (a test compares them) but takes seconds to import and lets unknown names and wrong types pass.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dartlib.records import did_you_mean


class NotebookError(ValueError):
    """A notebook or a parameter is not acceptable; the message names both. Raised before any kernel starts."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: kind = default  # help``."""

    name: str
    kind: str
    default: Any
    help: str


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook's JSON; NotebookError when it is not one."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(notebook["cells"], list):
            return notebook
    except FileNotFoundError:
        raise NotebookError(f"{path.name}: no such notebook") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        pass
    raise NotebookError(f"{path.name}: not a notebook (no readable list of cells)")


def source_of(cell: Mapping[str, Any]) -> str:
    """A cell's source text, which files store as one text or as a list of lines."""
    return "".join(cell["source"])


def read_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters a notebook declares, by name.

    Raises NotebookError when there is not exactly one cell tagged ``parameters``, or a line is not
    ``NAME: type = literal``.
    """
    cells = [cell for cell in read_notebook(path)["cells"] if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{path.name}: {len(cells)} cells are tagged 'parameters', expected exactly one")
    return parse_parameters(source_of(cells[0]), path.name)


def parse_parameters(source: str, where: str) -> dict[str, Parameter]:
    """The parameters that the source of a parameters cell declares; NotebookError names ``where`` and the line."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise NotebookError(f"{where}: parameters cell, line {error.lineno}: {error.msg}") from None
    lines = source.splitlines()
    parameters = [_parameter(statement, lines, where) for statement in statements]
    return {parameter.name: parameter for parameter in parameters}


def _parameter(statement: ast.stmt, lines: list[str], where: str) -> Parameter:
    try:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            raise ValueError
        if statement.value is None:
            raise ValueError
        default = ast.literal_eval(statement.value)  # literals only: names and calls raise ValueError
    except ValueError:
        line = lines[statement.lineno - 1].strip()
        raise NotebookError(f"{where}: parameters cell, {line!r}: write NAME: type = literal  # help") from None
    rest = lines[statement.end_lineno - 1][statement.end_col_offset :] if statement.end_lineno else ""
    kind = ast.unparse(statement.annotation)
    return Parameter(statement.target.id, kind, default, rest.partition("#")[2].strip())


def check_parameters(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], where: str, what: str = "parameter"
) -> None:
    """Raise NotebookError for an unknown name, a value that is no JSON value, or one of another type."""
    for name, value in given.items():
        if name not in declared:
            raise NotebookError(f"{where}: unknown {what} {name!r}: {did_you_mean(str(name), declared)}")
        if not _is_json(value):
            raise NotebookError(f"{where}: {what} {name} is {value!r}: give a JSON value (text, number, list …)")
        kind = declared[name].kind
        if not _matches(value, ast.parse(kind, mode="eval").body):
            raise NotebookError(f"{where}: {what} {name} is {value!r} ({type(value).__name__}), expected {kind}")


def _is_json(value: Any) -> bool:
    """Papermill writes values into the notebook as text: only JSON's own types survive that unchanged."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(part) for key, part in value.items())
    return value is None or type(value) in (str, int, float, bool) or type(value) is list and all(map(_is_json, value))


def _matches(value: Any, kind: ast.expr) -> bool:
    """True when ``value`` fits an annotation such as ``int``, ``list[str]`` or ``float | None``."""
    match kind:
        case ast.BinOp(left=left, right=right):
            return _matches(value, left) or _matches(value, right)
        case ast.Constant(value=None):
            return value is None
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return type(value) is list and all(_matches(part, inner) for part in value)
        case ast.Name(id="Any"):
            return True
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, inner])):
            return type(value) is dict and all(_matches(part, inner) for part in value.values())
        case ast.Name(id="float"):
            return type(value) in (int, float)
        case ast.Name(id="str" | "int" | "bool" | "list" | "dict" as name):
            return type(value).__name__ == name
    return False
