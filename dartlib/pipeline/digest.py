"""The one staleness rule: what a stage's results rest on, as a list with a digest. Equal digests, equal results.

In the list: the sources of the notebook's code cells, all parameters with the notebook's defaults, the content of what
they name, the files of earlier stages that the stage reads (from those stages' manifests), and declared versions. Not
in it: absolute paths, outputs and prose of the notebook, times, and the code's commit, which manifests record.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dartlib.files import REPOSITORY, content_digest
from dartlib.grading import GRADER_VERSION
from dartlib.pipeline.notebooks import read_notebook, read_parameters, source_of
from dartlib.pipeline.stages import NOTEBOOKS, Stage
from dartlib.queries import get_source, known_sets, local_file
from dartlib.records import Manifest, RecordError, read_manifest
from dartlib.sampling import SAMPLING_VERSION
from dartlib.training import TRAINING_VERSION, recipe_path

# Raised by hand when results change (a test holds a golden result for each); which notebooks depend on which.
VERSIONS = {
    "GRADER_VERSION": GRADER_VERSION,
    "SAMPLING_VERSION": SAMPLING_VERSION,
    "TRAINING_VERSION": TRAINING_VERSION,
}
DEPENDS_ON = {
    "00_start_here": ("GRADER_VERSION",),
    "01_bias_analysis": ("GRADER_VERSION",),
    "02_synthesis": ("SAMPLING_VERSION", "GRADER_VERSION"),
    "03_training": ("TRAINING_VERSION",),
    "04_evaluation": ("SAMPLING_VERSION", "GRADER_VERSION"),
}


def stage_inputs(stage: Stage, folder: Path) -> dict[str, Any]:
    """Everything the stage's digest covers, by name: a value, a sha256, or {file: sha256} where a parameter names it.

    A file of an earlier stage has None while that stage has not made it.
    """
    notebook = NOTEBOOKS / f"{stage.notebook}.ipynb"
    values = {name: parameter.default for name, parameter in read_parameters(notebook).items()}
    values |= stage.parameters
    # A recipe's name stands for a file of dartlib, which counts by its content like any other.
    values |= {name: str(recipe_path(value)) for name, value in values.items() if name == "RECIPE"}
    places = ("RUN_FOLDER", "STAGE_FOLDER", *stage.files)
    inputs: dict[str, Any] = {"stage": stage.name, "notebook": _cells_digest(notebook)}
    inputs |= {name: content_of(value) for name, value in values.items() if name not in places}
    manifests = [manifest_of(need, folder) for need in stage.needs]
    made: dict[str, Any] = {
        path: sha256 for manifest in manifests if manifest for path, sha256 in manifest.outputs.items()
    }
    for name in (*stage.files.values(), *stage.reads):
        inputs |= {path: made[path] for path in made if f"{path}/".startswith(f"{name}/")} or {name: None}
    return inputs | {name: VERSIONS[name] for name in DEPENDS_ON.get(stage.notebook, ())}


def digest_of(inputs: Mapping[str, Any]) -> str:
    """The digest of what `stage_inputs` lists, in hex."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two lists of inputs, one text each."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name == "notebook":
            found.append("the notebook's cells")
        elif "/" in name:
            found.append(name)
        elif _without_digests(old) == _without_digests(new):
            found.append(f"content of {name} {_without_digests(new)!r}")
        else:
            found.append(f"{name}: {_without_digests(old)!r} -> {_without_digests(new)!r}")
    return found


def content_of(value: Any) -> Any:
    """A parameter's value with everything it names replaced by name and sha256; a known set counts by its file.

    A folder that holds a pool counts by its name: trials are keyed by their setting, and the stage itself adds some.
    """
    if isinstance(value, Mapping):
        return [[name, content_of(part)] for name, part in sorted(value.items())]
    if isinstance(value, list):
        return [content_of(part) for part in value]
    if not isinstance(value, str) or not value:
        return int(value) if isinstance(value, float) and value.is_integer() else value  # 1.0 is 1
    if sets := [name for name, _ in known_sets(value)]:
        here = {name: content_digest(path) for name in sets if (path := local_file(get_source(name)))}
        return value if len(here) < len(sets) else here if sets == [value] else {value: here}
    path = REPOSITORY / Path(value).expanduser()
    if os.path.exists(path) and not holds_pool(path):
        return {path.name: content_digest(path)}
    return Path(value).name if os.path.isabs(value) else value


def with_fetched(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What `stage_inputs` listed before a stage ran, with the content of known sets that it fetched meanwhile."""
    fetched = {name: value for name, value in now.items() if _without_digests(value) == before.get(name)}
    return {**before, **fetched}


def holds_pool(path: Path) -> bool:
    """True for a folder with a pool of trials somewhere in it: paid for, and of use under any parameters."""
    return path.is_dir() and any(path.rglob("setting.json"))


def manifest_of(stage: str, folder: Path) -> Manifest | None:
    """The stage's manifest, None when it is absent or not readable (then the stage is not complete)."""
    with contextlib.suppress(FileNotFoundError, RecordError):
        return read_manifest(folder / stage / "manifest.json")
    return None


def _cells_digest(path: Path) -> str:
    """The sha256 of the code cells' sources; the parameters' own lines count by their values."""
    cells = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    code = [source_of(cell) for cell in cells if "parameters" not in cell.get("metadata", {}).get("tags", [])]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _without_digests(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_digests(part) for part in value]
    return ", ".join(value) if isinstance(value, dict) else value
