"""`make lab`: its command, and JupyterLab in a real browser: all cells run, a widget moves, both themes are drawn."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from lab_browser import CHROMIUM, REPOSITORY, errors_in, lab_in_browser


@pytest.mark.parametrize(("user", "allowed"), [("0", True), ("1000", False)])
def test_make_lab_takes_options_and_works_as_root(tmp_path: Path, user: str, allowed: bool) -> None:
    """With stand-ins for the environment, JupyterLab and `id`: what is JupyterLab told?"""
    stand_ins = {"venv/bin/jupyter": 'printf "%s\\n" "$@"', "bin/id": f"echo {user}"}
    for name, body in stand_ins.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    for stamp in (".runtime-installed", ".package-installed"):
        (tmp_path / "venv" / stamp).touch()
    done = subprocess.run(
        ["make", "lab", f"VENV={tmp_path / 'venv'}", "LAB_OPTIONS=--port 9999 --no-browser"],
        cwd=REPOSITORY, env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = done.stdout.split()
    assert told[:2] == ["lab", "--notebook-dir=."] and told[-3:] == ["--port", "9999", "--no-browser"]
    assert ("--allow-root" in told) == allowed


@pytest.mark.browser
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium")
def test_a_notebook_runs_in_jupyterlab_and_its_slider_moves(tmp_path: Path) -> None:
    """Opened as `make lab` opens it, on the newest complete run (a clone has the reference run)."""
    notebook = REPOSITORY / "notebooks" / "01_bias_analysis.ipynb"
    committed = notebook.read_bytes()
    code = [cell for cell in json.loads(committed)["cells"] if cell["cell_type"] == "code"]
    with lab_in_browser(tmp_path) as (page, address):
        page.open(address.format("notebooks/01_bias_analysis.ipynb"))
        outputs = page.run_all()
        assert errors_in(outputs) == [] and len(outputs) >= len(code) // 2
        assert page.ask("return document.querySelectorAll('.jp-OutputArea img').length") >= 4
        before, after = page.move_slider()
        assert before != after
        for theme in ("Light", "Dark"):
            page.theme(f"JupyterLab {theme}")
            page.picture(tmp_path / f"{theme}.png")
            assert page.ask("return document.body.dataset.jpThemeLight") == str(theme == "Light").lower()
            assert (tmp_path / f"{theme}.png").stat().st_size > 100_000
        assert (tmp_path / "Light.png").read_bytes() != (tmp_path / "Dark.png").read_bytes()
    assert notebook.read_bytes() == committed
