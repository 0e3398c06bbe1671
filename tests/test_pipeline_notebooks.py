"""Parameters are checked before a kernel starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from tiny_repository import write_notebook

from dartlib.pipeline.notebooks import NotebookError, Parameter, check_parameters, read_parameters

LINES = [
    'NAME: str = "x"  # a text',
    "COUNT: int = 3  # an integer",
    "RATE: float = -0.5  # a number",
    "FLAG: bool = False  # a switch",
    "ITEMS: list[str] = []  # texts",
    "ANY: list = [1, 'a']  # anything",
    "TABLE: dict[str, int] = {}  # counts",
    "LIMIT: int | None = None  # or nothing",
]


@pytest.fixture
def declared(tmp_path: Path) -> dict[str, Parameter]:
    return read_parameters(write_notebook(tmp_path / "toy.ipynb", LINES))


def test_parameters_are_read(declared: dict[str, Parameter]) -> None:
    assert declared["RATE"] == Parameter("RATE", "float", -0.5, "a number")
    assert declared["LIMIT"] == Parameter("LIMIT", "int | None", None, "or nothing")
    assert list(declared) == ["NAME", "COUNT", "RATE", "FLAG", "ITEMS", "ANY", "TABLE", "LIMIT"]


@pytest.mark.parametrize(
    "given",
    [
        {"NAME": ""},
        {"COUNT": 0},
        {"RATE": 1},  # an integer is a number
        {"RATE": 1.5},
        {"FLAG": True},
        {"ITEMS": ["a"]},
        {"ANY": [1, [2.5, None]]},
        {"TABLE": {"a": 1}},
        {"LIMIT": None},
        {"LIMIT": 4},
    ],
)
def test_right_values_pass(declared: dict[str, Parameter], given: dict[str, Any]) -> None:
    check_parameters(declared, given, "toy.ipynb")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"COUTN": 1}, "toy.ipynb: unknown parameter 'COUTN': did you mean 'COUNT'?"),
        ({"COUNT": "3"}, "toy.ipynb: parameter COUNT is '3' (str), expected int"),
        ({"COUNT": 3.0}, "toy.ipynb: parameter COUNT is 3.0 (float), expected int"),
        ({"COUNT": True}, "toy.ipynb: parameter COUNT is True (bool), expected int"),
        ({"FLAG": 1}, "toy.ipynb: parameter FLAG is 1 (int), expected bool"),
        ({"NAME": None}, "toy.ipynb: parameter NAME is None (NoneType), expected str"),
        ({"ITEMS": ["a", 1]}, "toy.ipynb: parameter ITEMS is ['a', 1] (list), expected list[str]"),
        ({"TABLE": {"a": "b"}}, "toy.ipynb: parameter TABLE is {'a': 'b'} (dict), expected dict[str, int]"),
        ({"NAME": Path("x")}, "toy.ipynb: parameter NAME is PosixPath('x'): give a JSON value (text, number, list …)"),
        ({"ANY": (1, 2)}, "toy.ipynb: parameter ANY is (1, 2): give a JSON value (text, number, list …)"),
        (
            {"ANY": [numpy.int64(1)]},
            "toy.ipynb: parameter ANY is [np.int64(1)]: give a JSON value (text, number, list …)",
        ),
        ({"TABLE": {1: 1}}, "toy.ipynb: parameter TABLE is {1: 1}: give a JSON value (text, number, list …)"),
    ],
)
def test_wrong_values_are_named(declared: dict[str, Parameter], given: dict[str, Any], message: str) -> None:
    with pytest.raises(NotebookError) as caught:
        check_parameters(declared, given, "toy.ipynb")
    assert str(caught.value) == message


def test_unreadable_notebooks_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="toy.ipynb: no such notebook"):
        read_parameters(tmp_path / "toy.ipynb")
    (tmp_path / "toy.ipynb").write_text("{}")
    with pytest.raises(NotebookError, match="toy.ipynb: not a notebook"):
        read_parameters(tmp_path / "toy.ipynb")
    with pytest.raises(NotebookError, match="0 cells are tagged 'parameters'"):
        read_parameters(write_notebook(tmp_path / "toy.ipynb", None))
    with pytest.raises(NotebookError, match="parameters cell, line 1"):
        read_parameters(write_notebook(tmp_path / "toy.ipynb", ["N: int ="]))
    with pytest.raises(NotebookError, match="'N: int': write NAME: type = literal"):
        read_parameters(write_notebook(tmp_path / "toy.ipynb", ["N: int"]))
    with pytest.raises(NotebookError, match="write NAME: type = literal"):
        read_parameters(write_notebook(tmp_path / "toy.ipynb", ['N: str = open("f").read()']))
