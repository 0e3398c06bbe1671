"""Interactive parts: one static output where nobody watches, controls in a kernel that a person opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dartlib.analysis import explore

VIEW = """
from dartlib.analysis import explore
def view(level="", correct=0, number=2):
    print("seen", repr(level), correct, number)
explore(view, level=["", "5"], correct=["any", 0, 1], number=(0, 3))
"""


def test_without_a_kernel_the_view_is_shown_once_with_its_defaults() -> None:
    seen: list[int] = []

    def view(number: int = 4) -> None:
        seen.append(number)

    explore(view, number=(0, 9))
    assert seen == [4]


@pytest.mark.slow
def test_a_headless_runner_gets_no_widget() -> None:
    """No comm means that no message about a widget can be waited for."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    client = NotebookClient(new_notebook(cells=[new_code_cell(VIEW)]), kernel_name="python3")
    node = client.execute()
    (output,) = node.cells[0].outputs
    assert output["text"] == "seen '' 0 2\n"
    assert not client.widget_state and not client.comm_objects


@pytest.mark.slow
def test_an_open_notebook_gets_controls_that_start_at_the_defaults() -> None:
    from jupyter_client.manager import start_new_kernel

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    manager, client = start_new_kernel(kernel_name="python3", env=environment)
    try:
        messages = []
        client.execute_interactive(VIEW, output_hook=messages.append, timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    shown = [one["content"]["data"] for one in messages if one["msg_type"] == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    states: dict[str, dict[str, Any]] = {}
    for one in (one["content"] for one in messages if one["msg_type"].startswith("comm_")):
        states.setdefault(one["comm_id"], {}).update(one["data"].get("state", {}))
    controls = [one for one in states.values() if one.get("description")]
    assert [(one["description"], one.get("index", one.get("value"))) for one in controls] == [
        ("level", 0),
        ("correct", 1),
        ("number", 2),
    ]
    text = "".join(one["content"]["text"] for one in messages if one["msg_type"] == "stream")
    assert text == "seen '' 0 2\n"
