"""Open an engine by name, and close it whatever happens."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dartlib.engines import endpoints, loop
from dartlib.engines.models import resolve_model
from dartlib.engines.protocol import Engine, EngineError
from dartlib.engines.vllm_server import open_vllm


@contextmanager
def open_engine(
    engine: str,
    model: str = "embedded",
    *,
    log_folder: Path,
    api_key_variable: str = "",
    say: Callable[[str], None] = print,
) -> Iterator[Engine]:
    """Open ``engine`` for ``model`` for the length of a ``with`` block.

    ``engine`` is ``"vllm"`` (a server child; vLLM's own options may follow, as in ``"vllm --tensor-parallel-size 2"``:
    so it takes several GPUs, or serves copies with ``--data-parallel-size``), ``"local"`` (transformers in this
    process), ``"auto"`` (vLLM if a server starts and answers, else local, with a line saying why) or comma-separated
    addresses of OpenAI-compatible servers, ``"http://host:port/v1"``. ``model`` is ``"embedded"``, a folder or a Hub
    id; for servers it is the served name, or ``"auto"`` or ``"embedded"`` for the only one they have.
    ``api_key_variable`` is the name of the environment variable that holds the servers' key.

    Raises EngineError or ModelError, one line with the fix.
    """
    with ExitStack() as stack:
        if engine.startswith(("http://", "https://")):
            addresses = [address.strip() for address in engine.split(",") if address.strip()]
            opened: Engine = loop.run(endpoints.connect(addresses, model, api_key_variable=api_key_variable, say=say))
        elif engine in ("local", "auto") or engine.split()[:1] == ["vllm"]:
            opened = _open_here(stack, engine, resolve_model(model), log_folder, say)
        else:
            raise EngineError(
                f"engine {engine!r} is unknown: give auto, vllm, local, or a server's address (http://host:port/v1)",
                retryable=False,
            )
        stack.callback(lambda: loop.run(opened.close()))
        yield opened


def _open_here(stack: ExitStack, engine: str, model: Path, log_folder: Path, say: Callable[[str], None]) -> Engine:
    """An engine on this machine; a server ends with ``stack``."""
    if engine != "local":
        try:
            options = shlex.split(engine)[1:]
            return stack.enter_context(open_vllm(model, log_folder=log_folder, options=options, say=say))
        except EngineError as error:
            if engine != "auto":
                raise
            say(f"engine auto: local transformers, which are slower, because {error}")
    from dartlib.engines.local import LocalEngine

    return LocalEngine(model)
