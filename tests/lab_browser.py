"""JupyterLab as `make lab` starts it, in a headless Chromium that is spoken to over its own protocol.

    python tests/lab_browser.py FOLDER [notebook …]     runs all cells, moves a widget, saves pictures, light and dark

Selenium and playwright were rejected: a driver or a browser of their own to download, for five commands of the
DevTools protocol, which the WebSocket client that comes with JupyterLab can send.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

REPOSITORY = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
_TOKEN = "only-for-tests"
_SETTINGS = {  # nothing is saved back into a committed notebook, and all cells are drawn, not only those in view
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false"},
}
_PANEL = "const panel = [...jupyterapp.shell.widgets('main')].find(one => one.content?.model?.cells);"
_OUTPUTS = "[...panel.content.model.cells].flatMap(cell => cell.type === 'code' ? cell.outputs.toJSON() : [])"
_SLIDER = "document.querySelector('.widget-slider .noUi-handle')"
_INTERACT = "document.querySelector('.widget-interact:has(.noUi-handle)')"


def lab_command(*options: str) -> str:
    """The shell line with which `make lab` starts JupyterLab, for this Python's environment and nothing installed."""
    listed = subprocess.run(
        ["make", "-n", "lab", f"VENV={sys.prefix}", f"LAB_OPTIONS={' '.join(options)}"],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return next(line for line in listed.splitlines() if "jupyter lab" in line)


@contextmanager
def running(command: Any, environment: dict[str, str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, of which nothing is left afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True, **options
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(what: str, look: Callable[[], Any], seconds: float = 120) -> Any:
    """What ``look`` returns once it is true (an OSError is not yet); TimeoutError says what was waited for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if found := look():
                return found
        except OSError:
            pass
        time.sleep(0.3)
    raise TimeoutError(f"{what}: not there after {seconds:.0f} s")


class Page:
    """One page of a Chromium: commands of the DevTools protocol, and the few that the tests need by name."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, timeout=900, suppress_origin=True)
        self.number = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            reply = json.loads(self.socket.recv())
            if reply.get("id") == self.number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return reply["result"]

    def ask(self, script: str) -> Any:
        """The value of a JavaScript function body, promises awaited."""
        script = f"(async () => {{ {script} }})()"
        reply = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(reply["exceptionDetails"].get("exception", {}).get("description", script))
        return reply["result"].get("value")

    def picture(self, path: Path) -> None:
        """The whole notebook, however long: the window is made as high as it."""
        height = self.ask(f"{_PANEL} return panel.content.node.querySelector('.jp-WindowedPanel-inner').scrollHeight")
        self.resize(min(height + 200, 16_000))
        time.sleep(2)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        self.resize(900)

    def resize(self, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=1300, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, address: str) -> None:
        """Go to a notebook in JupyterLab and wait for its kernel."""
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        self.send("Page.navigate", url=address)
        ready = f"if (!window.jupyterapp) return false; {_PANEL} if (panel) jupyterapp.shell.activateById(panel.id);"
        ready += "return !!panel && panel.sessionContext.session?.kernel?.status === 'idle'"
        wait_for("a notebook with an idle kernel", lambda: self.ask(ready), 240)

    def run_all(self) -> list[dict[str, Any]]:
        """Run all cells as the menu does, wait for the last, and return all outputs."""
        self.ask(f"await jupyterapp.commands.execute('notebook:run-all-cells'); {_PANEL} return 1")
        return self.ask(f"{_PANEL} return {_OUTPUTS}")

    def move_slider(self) -> tuple[str, str]:
        """One step to the right with the key, on the first slider; its reading before and after.

        Returns when what it controls was drawn anew, and raises TimeoutError where that does not happen.
        """
        reading = f"return {_INTERACT}.querySelector('.widget-slider .widget-readout').textContent"
        drawn = f"return {_INTERACT}.querySelector('.jp-OutputArea').innerHTML"
        wait_for("the slider's first picture", lambda: self.ask(drawn))
        before, picture = self.ask(reading), self.ask(drawn)
        self.ask(f"{_SLIDER}.scrollIntoView({{block: 'center'}}); {_SLIDER}.focus()")
        low = self.ask(f"return {_SLIDER}.getAttribute('aria-valuenow') === {_SLIDER}.getAttribute('aria-valuemin')")
        key = "ArrowRight" if low else "ArrowLeft"
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=37 + 2 * low)
        wait_for("another reading", lambda: self.ask(reading) != before)
        wait_for("another picture", lambda: self.ask(drawn) not in (picture, ""))
        return before, self.ask(reading)

    def theme(self, name: str) -> None:
        self.ask(f"await jupyterapp.commands.execute('apputils:change-theme', {{theme: '{name}'}}); return 1")
        time.sleep(1)


@contextmanager
def lab_in_browser(folder: Path) -> Iterator[tuple[Page, str]]:
    """A page, and the address under which a notebook's path opens. Settings and logs go to ``folder``."""
    for name, values in _SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--expose-app-in-browser", f"--IdentityProvider.token={_TOKEN}"]
    own = {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    own |= {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    chromium = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    chromium += [f"--user-data-dir={folder / 'chromium'}", "about:blank"]
    with (
        running(["bash", "-c", lab_command(*options)], own, folder / "lab.log", cwd=REPOSITORY),
        running(chromium, {}, folder / "chromium.log"),
    ):
        status = f"http://127.0.0.1:{port}/api/status?token={_TOKEN}"
        wait_for("JupyterLab", lambda: urllib.request.urlopen(status, timeout=5).status == 200)
        debugger = wait_for("Chromium", lambda: (folder / "chromium" / "DevToolsActivePort").read_text()).split()[0]
        targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{debugger}/json/list", timeout=20))
        page = Page(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
        page.resize(900)
        yield page, f"http://127.0.0.1:{port}/lab/tree/{{}}?token={_TOKEN}"


def errors_in(outputs: list[dict[str, Any]]) -> list[str]:
    return [f"{one['ename']}: {one['evalue']}" for one in outputs if one["output_type"] == "error"]


def look_at(folder: Path, names: list[str]) -> None:
    """Run each notebook, tell seconds and errors, and save its pictures in both themes."""
    for name in names:
        own = folder / name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        with lab_in_browser(own) as (page, address):
            page.open(address.format(f"notebooks/{name}.ipynb"))
            began = time.monotonic()
            errors = errors_in(page.run_all())
            seconds, moved = time.monotonic() - began, "no slider"
            if page.ask(f"return !!{_SLIDER}"):
                moved = "slider {} -> {}".format(*page.move_slider())
            for theme in ("Light", "Dark"):
                page.theme(f"JupyterLab {theme}")
                page.picture(folder / f"{name}_{theme.lower()}.png")
        print(f"{name}: {seconds:.0f} s, {moved}, errors: {errors or 'none'}", flush=True)


if __name__ == "__main__":
    every = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb"))
    look_at(Path(sys.argv[1]), sys.argv[2:] or every)
