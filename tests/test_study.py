"""The study's main run: its driver killed twice at a tiny size, and its comparisons against values by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dartlib.records import SftRow
from dartlib.sampling import Setting
from dartlib.sampling.pool import PoolWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "papermill_runs" / "study"))
import main
import results

SCRIPT = Path(__file__).with_name("study_run.py")
HARD_RIGHT = {"vrt": "10", "vrt-tokens": "10", "uniform": "10", "prop2diff": "11"}  # of the two items of a level


def write_student(folder: Path, arm: str, replicate: int, right: dict[int, str], tokens: int = 100) -> None:
    """Two items of each level of the ladder, of which the ones in ``right`` are solved, and two wrong ones outside."""
    asked = [("ladder-steps", level, item, right[level][item] == "1") for level in range(1, 6) for item in (0, 1)]
    asked += [("ladder-divisors", 3, item, False) for item in (0, 1)]
    rows = [
        {"query_id": f"{source} {level} {item}", "source": source, "level": level, "response": f"{level} {item}"}
        | {"verdict": "correct" if solved else "wrong"}
        for source, level, item, solved in asked
    ]
    place = folder / f"{arm}-{replicate}"
    place.mkdir(parents=True)
    pd.DataFrame(rows).sample(frac=1, random_state=replicate).to_parquet(place / "items.parquet")
    facts = {"tokens": tokens * replicate, "unusable": [], "machine": "toy", "repeats_passed_over": 7}
    facts |= {"training_seconds": 3600, "evaluation_seconds": 0, "rows_by_level": dict.fromkeys("12345", 2)}
    (place / "metrics.json").write_text(json.dumps(facts))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Five students an arm: prop2diff solves all of levels 3 to 5 and nothing of level 1, the others half and all."""
    for arm, hard in HARD_RIGHT.items():
        easy = {1: "00" if arm == "prop2diff" else "11", 2: "11"}
        for replicate in range(1, 6):
            write_student(tmp_path, arm, replicate, easy | dict.fromkeys((3, 4, 5), hard))
    return tmp_path


def test_analysis_by_hand(made: Path) -> None:
    """Gains of 0 and 1 by turns on six items: variance .3, error sqrt(.3 / 6), t(5) = 2.5706; students all alike."""
    found = results.analyse(made, dict.fromkeys(HARD_RIGHT, 5))
    primary = found["primary"]
    assert (primary["comparison"], primary["items"], primary["students"]) == (
        "prop2diff - vrt",
        "levels 3 to 5",
        [5, 5],
    )
    assert primary["difference"] == pytest.approx(50)
    assert [primary["low"], primary["high"]] == pytest.approx([50 - 2.5706 * 22.3607, 50 + 2.5706 * 22.3607], abs=1e-2)
    assert len(found["secondary"]) == 11, "as declared"
    by_items = {(row["comparison"], row["items"]): row for row in found["secondary"]}
    level_1 = by_items["prop2diff - vrt", "level 1"]
    assert [level_1["difference"], level_1["low"], level_1["high"]] == [-100, -100, -100]
    assert by_items["prop2diff - vrt", "levels 1 to 5"]["difference"] == pytest.approx(100 * (-1 + 0 + 0.5 * 3) / 5)
    assert by_items["prop2diff - vrt", "out of domain"]["difference"] == 0
    # Holm: the level that is lost for certain takes the factor 11, the two like the primary 10, all others end at 1.
    assert level_1["p_holm"] == 0
    for comparison in ("prop2diff - vrt-tokens", "prop2diff - uniform"):
        assert by_items[comparison, "levels 3 to 5"]["p_holm"] == pytest.approx(10 * primary["p_value"])
    assert by_items["prop2diff - vrt", "level 4"]["p_holm"] == 1
    vrt = found["arms"][0]
    assert (vrt["arm"], vrt["hard"], vrt["1"], vrt["tokens"], vrt["rows"]) == ("vrt", 0.5, 1.0, 300, 10)
    assert (vrt["repeats_passed_over"], vrt["hours"], vrt["shares"]) == (7, 5, [0.2] * 5)
    page = (made / "RESULT.md").read_text()
    assert "| prop2diff - vrt | levels 3 to 5 | 5 and 5 | +50.0 | -7.5 to +107.5 | 0.0756 |" in page
    assert json.loads((made / "result.json").read_text()) == found
    sidecar = json.loads((made / "figures" / "study_accuracy_by_level.json").read_text())
    assert "run: study" in sidecar["caption"] and len(sidecar["inputs"]) == 15


def test_each_level_weighs_the_same(tmp_path: Path) -> None:
    """Level 3: one item, right; level 4: three, none right. Their mean is a half, not a quarter."""
    rows = [("a", 3, "correct"), ("b", 4, "wrong"), ("c", 4, "wrong"), ("d", 4, "wrong")]
    items = pd.DataFrame(rows, columns=["query_id", "level", "verdict"]).assign(source="ladder-steps")
    assert results.scores(results.Student(1, {}, items), (3, 4)).mean() == pytest.approx(0.5)


def test_an_arm_that_is_not_complete_is_not_looked_at(made: Path) -> None:
    """Unless the run has ended: then the replicates that both arms have count, here 1 to 4: points and no interval."""
    (made / "prop2diff-5" / "metrics.json").unlink()
    found = results.analyse(made, dict.fromkeys(HARD_RIGHT, 5))
    assert "difference" not in found["primary"] and "prop2diff" not in {row["arm"] for row in found["arms"]}
    assert "| prop2diff - vrt | levels 3 to 5 | 0 and 0 | not looked at |" in (made / "RESULT.md").read_text()
    ended = results.analyse(made, dict.fromkeys(HARD_RIGHT, 5), ended=True)
    assert ended["primary"]["students"] == [4, 4] and ended["primary"]["difference"] == pytest.approx(50)
    assert "low" not in ended["primary"] and "ended early" in (made / "RESULT.md").read_text()


def test_rows_are_drawn_without_repeats_and_repeats_are_counted() -> None:
    """Three different (query, response) among six rows; the same text of another query is no repeat."""
    texts = [("q1", "a"), ("q1", "a"), ("q2", "a"), ("q1", "a"), ("q1", "b"), ("q2", "a")]
    rows = [SftRow("?", text, query, place, "toy", 1, None, "vrt") for place, (query, text) in enumerate(texts)]
    for seed in range(20):
        different, looked_at = main.distinct(rows, seed)
        assert {(row.query_id, row.response) for row in different} == {("q1", "a"), ("q2", "a"), ("q1", "b")}
        assert len(different) == len(looked_at) == 3
        assert looked_at[0] == 1 and sorted(set(looked_at)) == looked_at and looked_at[2] <= 6
    assert main.distinct(rows, 3) == main.distinct(rows, 3)
    assert len({main.distinct(rows, seed)[0][0].trial for seed in range(20)}) > 2, "another seed, other rows"


def test_the_order_and_the_sizes_are_the_declared_ones() -> None:
    names = [f"{arm}-{replicate}" for arm, replicate in main.planned()]
    assert names[:5] == ["vrt-1", "prop2diff-1", "uniform-1", "vrt-2", "prop2diff-2"]
    assert names[13:17] == ["prop2diff-5", "uniform-5", "vrt-6", "prop2diff-6"] and names[35:37] == [
        "base-1",
        "vrt-800-1",
    ]
    assert len(names) == len(set(names)) == 25 + 10 + 15 + 1
    items = main.test_items()
    assert sum(item.source == "ladder-steps" and item.level >= 3 for item in items) == 600 and len(items) == 1000


def test_a_pool_goes_on_with_its_own_teacher_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "MAIN", tmp_path)
    PoolWriter(tmp_path / "pool", Setting.of("one", "template", main.SAMPLING, 1))
    main.check_teacher("one")
    with pytest.raises(SystemExit, match="begun by the teacher one, this machine's is two.*must be of one"):
        main.check_teacher("two")


def run_driver(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), *words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_between_students_and_in_one_the_same_command_finishes_and_repeats_none(tmp_path: Path) -> None:
    early = run_driver(tmp_path, "students")
    assert early.returncode == 1 and "the pool is not complete" in early.stderr
    drawn = run_driver(tmp_path, "pool")
    assert drawn.returncode == 0, drawn.stderr
    between = run_driver(tmp_path, "students", KILL_BEFORE="prop2diff-1")
    within = run_driver(tmp_path, "students", KILL_WITHIN="uniform-1")
    assert between.returncode == within.returncode == -9
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("main/*/metrics.json")}
    assert sorted(path.parent.name for path in kept) == ["prop2diff-1", "vrt-1"]
    last = run_driver(tmp_path, "all")
    assert last.returncode == 0, last.stderr
    assert "pool: complete" in last.stdout and "students: all made" in last.stdout
    begun = [line.split()[1] for run in (between, within, last) for line in run.stdout.splitlines() if "begun" in line]
    assert begun == ["vrt-1:", "prop2diff-1:", "uniform-1:", "uniform-1:", "vrt-tokens-1:", "base-1:"]
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())
    for place in (path.parent for path in tmp_path.glob("main/*/metrics.json")):
        names = {path.name for path in place.iterdir()} - {"training_log.jsonl"}
        assert names == {"items.parquet", "metrics.json"} and len(pd.read_parquet(place / "items.parquet")) == 7
    assert not list(tmp_path.glob("main/.making-*"))
    equal, other = (
        json.loads((tmp_path / f"main/{name}/metrics.json").read_text()) for name in ("vrt-tokens-1", "vrt-1")
    )
    assert sum(other["rows_by_level"].values()) == 12 and equal["seed"] != other["seed"]
    shown = run_driver(tmp_path, "status")
    assert "vrt: 1 of 1" in shown.stdout and "pool: complete" in shown.stdout
    assert "too few students" in run_driver(tmp_path, "analyse").stdout
