"""Fixtures shared by all tests: the real data files and the embedded model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """A shell starts background jobs with interrupts ignored: tests of Ctrl-C would wait for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data files: DARTLIB_TEST_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("DARTLIB_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    reason = f"test data not found at {folder}: set DARTLIB_TEST_DATA to its folder"
    if named or os.environ.get("DARTLIB_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The embedded model as a safetensors folder, made once in the user's cache."""
    from dartlib.engines import embedded_model

    return embedded_model()
