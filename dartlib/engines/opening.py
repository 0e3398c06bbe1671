"""Open an engine by name, and close it whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dartlib.engines.protocol import Engine


@contextmanager
def open_engine(engine: str, model: str, *, log_folder: Path) -> Iterator[Engine]:
    raise NotImplementedError
    yield
