"""The notebooks as lessons: each has its parts, and what its solutions say is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from lesson_cells import lint_lesson

TESTS = Path(__file__).parent
LESSONS: list[str] = []


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_its_parts(name: str) -> None:
    assert lint_lesson(name, TESTS) == []
