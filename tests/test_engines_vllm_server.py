"""The supervision of the server child, with small commands in place of vLLM (the real one: test_engine_contract)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dartlib.engines import EngineError, open_engine, vllm_server


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(vllm_server.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "sockets"))
    (tmp_path / "sockets").mkdir()
    monkeypatch.setattr(vllm_server, "short_temporary_folder", lambda: str(tmp_path / "sockets"))
    return str(folder)


def test_a_server_that_dies_at_start_is_one_clear_line(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; sys.exit('INFO fine so far\\nRuntimeError: no memory left\\n  raise OSError(\\nnanobind: leaked"
        "\\n(A) WARNING 1: limits cause errors like `OSError: [Errno 24] Too many open files`')"
    )
    monkeypatch.setattr(vllm_server, "_command", lambda *_: [sys.executable, "-c", code])
    with pytest.raises(EngineError) as caught, open_engine("vllm", model, log_folder=tmp_path):
        pass
    message = str(caught.value)
    assert "died during start (status 1): RuntimeError: no memory left" in message
    assert "vllm_server.log" in message
    assert "\n" not in message
    assert not list((tmp_path / "sockets").iterdir())


def test_a_server_that_is_never_ready_is_given_up_and_ended(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_server, "START_SECONDS", 1.0)
    monkeypatch.setattr(vllm_server, "_command", lambda *_: ["sh", "-c", "echo $$; echo still loading; sleep 600"])
    started = time.monotonic()
    with (
        pytest.raises(EngineError, match="not ready after 1 s: still loading"),
        open_engine("vllm", model, log_folder=tmp_path),
    ):
        pass
    assert time.monotonic() - started < 6
    pid = int((tmp_path / "vllm_server.log").read_text().split()[0])
    assert not Path(f"/proc/{pid}").exists()
    assert not list((tmp_path / "sockets").iterdir())


def test_without_vllm_it_says_what_to_install(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_server.importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(EngineError, match="vLLM is not installed: install"),
        open_engine("vllm", model, log_folder=tmp_path),
    ):
        pass


def test_auto_says_in_one_line_why_it_is_local(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dartlib.engines import local

    class Local:
        def __init__(self, folder: Path) -> None:
            self.folder = folder

        async def close(self) -> None:
            return None

    monkeypatch.setattr(vllm_server, "_command", lambda *_: ["sh", "-c", "echo ValueError: bad; exit 3"])
    monkeypatch.setattr(local, "LocalEngine", Local)
    said: list[str] = []
    with open_engine("auto", model, log_folder=tmp_path, say=said.append) as engine:
        assert isinstance(engine, Local)
    assert len([line for line in said if "local transformers" in line and "ValueError: bad" in line]) == 1


def test_the_command_opens_no_port_and_carries_no_key(model: str, tmp_path: Path) -> None:
    command = vllm_server._command(Path(model), tmp_path / "socket")
    assert command[command.index("--uds") + 1] == str(tmp_path / "socket")
    assert not {"--port", "--host", "--api-key"} & set(command)
    assert command[command.index("--max-model-len") + 1] == "512"
    assert command[command.index("--generation-config") + 1] == "vllm"


def test_vllms_own_options_come_last_and_each_copy_takes_its_share_of_requests(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an option given twice vLLM takes the last one."""
    seen: dict[str, object] = {}

    async def connect(addresses: object, **options: object) -> object:
        seen.update(options)
        raise EngineError("far enough")

    monkeypatch.setattr(vllm_server.endpoints, "connect", connect)
    monkeypatch.setattr(vllm_server, "_wait_until_healthy", lambda *_: None)
    command = 'echo "$@" >&2; sleep 60'
    given = vllm_server._command
    monkeypatch.setattr(vllm_server, "_command", lambda *them: ["sh", "-c", command, "sh", *given(*them)])
    expected = {"vllm": 256, "vllm --data-parallel-size 2": 512, "vllm -dp 4 --max-model-len 99": 1024}
    expected |= {"vllm --data_parallel_size 3": 768, "vllm --enforce-eager --data_parallel-size=2": 512}
    for engine, slots in expected.items():
        with pytest.raises(EngineError, match="far enough"), open_engine(engine, model, log_folder=tmp_path):
            pass
        assert seen["slots"] == slots
    assert given(Path(model), tmp_path / "socket", ["--max-model-len", "99"])[-2:] == ["--max-model-len", "99"]


def test_a_job_runners_thread_limits_do_not_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    environment = vllm_server._environment(tmp_path)
    assert not [name for name in environment if name.endswith("_NUM_THREADS")]
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "7"  # the user's word wins
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_cpu_numbers_as_ranges() -> None:
    assert vllm_server.as_ranges({0, 1}) == "0-1"
    assert vllm_server.as_ranges({7, 0, 2, 3, 4}) == "0,2-4,7"


def test_kill_9_during_the_start_leaves_no_server(model: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom dartlib.engines import open_engine, vllm_server\n"
        "vllm_server.importlib.util.find_spec = lambda name: object()\n"
        "vllm_server._command = lambda *_: ['sh', '-c', 'trap : TERM; echo $$; while :; do sleep 1; done']\n"
        "with open_engine('vllm', sys.argv[1], log_folder=Path(sys.argv[2])): pass"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, model, str(tmp_path)])
    log = tmp_path / "vllm_server.log"
    deadline = time.monotonic() + 20
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(log.read_text().split()[0])
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
