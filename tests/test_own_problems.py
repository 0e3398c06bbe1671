"""The researcher's own path: a file of problems, a server on a port, three changed parameters of notebook 02."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import papermill
import pytest

from dartlib.engines import vllm_server
from dartlib.processes import start_child
from dartlib.records import SftRow, read_records

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.model, pytest.mark.timeout(1200)]


@pytest.fixture
def server(embedded: Path, tmp_path: Path) -> Iterator[str]:
    """A vLLM server that we did not open as an engine: its own port, found only by its address."""
    pytest.importorskip("vllm")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = vllm_server._command(embedded, tmp_path / "unused")
    at = command.index("--uds")
    command[at : at + 2] = ["--host", "127.0.0.1", "--port", str(port)]
    with start_child(command, log_path=tmp_path / "server.log", env=vllm_server._environment(tmp_path)) as child:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and child.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((tmp_path / "server.log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/v1"


def test_twenty_own_problems_and_a_url_give_a_prop2diff_set_with_its_card(server: str, tmp_path: Path) -> None:
    problems = tmp_path / "my-problems.jsonl"
    rows = [{"query": f"What is {n} + {n + 1}?", "reference_answer": str(2 * n + 1)} for n in range(2, 22)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "stage"
    out.mkdir()
    papermill.execute_notebook(
        str(REPOSITORY / "notebooks" / "02_synthesis.ipynb"),
        str(tmp_path / "executed.ipynb"),
        {
            # the three that a person changes
            "QUERIES": str(problems),
            "ENGINE": server,
            "TEMPLATE": "ladder-fewshot",
            # where this test may write, and a small cap to be quick
            "RUN_FOLDER": str(tmp_path),
            "STAGE_FOLDER": str(out),
            "DIFFICULTY_TRIALS": 8,
            "VRT_TRIALS": 8,
            "TRIAL_CAP": 12,
        },
        kernel_name="python3",
        cwd=str(tmp_path),
        progress_bar=False,
    )
    data = read_records(out / "datasets" / "prop2diff.parquet", SftRow)
    assert data and {row.query for row in data} <= {row["query"] for row in rows}
    answers = {row["query"]: row["reference_answer"] for row in rows}
    assert all(answers[row.query] in row.response for row in data)
    card = (out / "datasets" / "prop2diff.md").read_text()
    assert f"{len(data)} responses" in card and "`prop2diff_quota`: 12" in card
    assert json.loads((out / "metrics.json").read_text())["queries"] == 20
