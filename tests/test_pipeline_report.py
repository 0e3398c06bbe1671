"""`dartlib report`: what is in the file, what must never be, and that nothing in it can do anything."""

from __future__ import annotations

import base64
import html as html_entities
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dartlib.files import REPOSITORY
from dartlib.pipeline import cli, report
from dartlib.pipeline.digest import stage_inputs
from dartlib.pipeline.manifests import build_manifest
from dartlib.pipeline.profiles import load_profile, with_overrides
from dartlib.pipeline.rendering import clean, formula, markdown
from dartlib.pipeline.report import write_report
from dartlib.pipeline.stages import build_run, save_run
from dartlib.queries import why_withheld
from dartlib.records import Query, QueryOutcome, RecordError, Sample, write_manifest, write_records

CHROMIUM = Path("/usr/bin/chromium")
# One white pixel.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg==")
EVIL = '</script><script>alert("x")</script><img src=http://tracker.example/p.png onerror=alert(1)>'
RESPONSE = f"{EVIL}\nIt costs $5 or \\frac{{1}}{{2}}.\x00\x1b[31m\u202eThe answer is 8."
SHOWN = RESPONSE.translate(dict.fromkeys([0x00, 0x1B, 0x202E], "\ufffd"))


def points(where: str = "level == 1", file: str = "02_synthesis/samples.parquet", n: int = 4) -> list[dict[str, Any]]:
    return [{"label": "vrt, level 1", "value": 0.5, "low": 0.25, "high": 0.75, "file": file, "where": where, "n": n}]


def write_figure(folder: Path, name: str, drawn: list[dict[str, Any]], title: str = "Pass rates") -> None:
    """A picture and its sidecar, as `publish` leaves them."""
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / f"{name}.png").write_bytes(PNG)
    sidecar = {"title": title, "caption": "By level.", "notebook": "01_bias_analysis", "stage": "01_bias_analysis"}
    sidecar |= {"inputs": {"02_synthesis/samples.parquet": "a" * 64}, "git_commit": "c" * 40, "points": drawn}
    (folder / "figures" / f"{name}.json").write_text(json.dumps(sidecar))


def write_copy(folder: Path, stage: str, *cells: Any) -> None:
    """An executed copy of a stage's notebook, whose run folder lay elsewhere."""
    given = nbformat.v4.new_code_cell('RUN_FOLDER = "/scratch/of/somebody/toy"', execution_count=1)
    prose = nbformat.v4.new_markdown_cell("# Toy\n\nThe mean is $n \\cdot p$.")
    notebook = nbformat.v4.new_notebook(cells=[prose, given, *cells])
    (folder / stage).mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / stage / "notebook.ipynb")


def cell(source: str, *outputs: Any) -> Any:
    return nbformat.v4.new_code_cell(source, execution_count=2, outputs=list(outputs))


def output(**data: str) -> Any:
    return nbformat.v4.new_output("display_data", data={name.replace("_", "/"): text for name, text in data.items()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of the smoke profile whose first three stages are there, made by hand: two queries, four trials each."""
    return make_run(tmp_path / "toy")


def make_run(folder: Path, source: str = "ladder-arithmetic", stages: int = 3) -> Path:
    profile = with_overrides(load_profile("smoke"), [f"02_synthesis.QUERIES={source}"])
    run = build_run(profile, folder, "dartlib run smoke")
    save_run(run, folder / "run.json")
    synthesis = folder / "02_synthesis"
    queries = [Query(f"q{level}", source, f"Secret question {level}?", "8", level=level) for level in (1, 2)]
    samples = [
        Sample(f"q{level}", trial, level, "correct" if trial % 2 else "wrong", "8", 9, "stop", RESPONSE)
        for level in (1, 2)
        for trial in range(4)
    ]
    outcomes = [QueryOutcome(f"q{level}", "vrt", level, 4, 2, 0.5, None, 4, 2, 1, "drawn") for level in (1, 2)]
    write_records(synthesis / "queries.parquet", queries, Query)
    write_records(synthesis / "samples.parquet", samples, Sample)
    write_records(synthesis / "outcomes.parquet", outcomes, QueryOutcome)
    (synthesis / "datasets").mkdir()
    (synthesis / "datasets" / "vrt.md").write_text(f"---\nlicense: other\n---\n\n# vrt: 4 responses\n\n{EVIL}\n")
    made = {"trials": 8, "wasted_trials": 1, "rows": {"vrt": 4}, "verdicts": {"correct": 4, "wrong": 4}}
    (synthesis / "metrics.json").write_text(json.dumps(made))
    bias = {"strategy": "vrt", "responses": 4, "coverage": 1.0, "coverage_low": 0.34, "coverage_high": 1.0}
    write_copy(folder, "01_bias_analysis", cell("1 + 1", output(text_plain="2")))
    (folder / "01_bias_analysis" / "metrics.json").write_text(json.dumps({"summary": [bias]}))
    write_figure(folder, "pass_rates", points())
    for stage in run.stages[:stages]:
        (folder / stage.name).mkdir(parents=True, exist_ok=True)
        manifest = build_manifest(run, stage, folder, stage_inputs(stage, folder), 1.79e9, 1.79e9 + 30)
        write_manifest(folder / stage.name / "manifest.json", manifest)
    return folder


class Page(HTMLParser):
    """Tags with their attributes, texts, and the text that a reader would see, of a written report."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


@pytest.fixture
def page(folder: Path, tmp_path: Path) -> Page:
    write_report(folder, tmp_path / "out.html")
    return Page(tmp_path / "out.html")


def test_summary_tables_figure_card_and_copy_are_there(page: Page) -> None:
    for told in (
        "profilesmoke", "30.0 s", "commit", "machine", "90 s in all stages", "versions", "python 3.11",
        "1\N{NO-BREAK SPACE}[0.34,\N{NO-BREAK SPACE}1]",  # coverage with its interval
        "wasted_trials", "Pass rates", "vrt, level 1: 0.5 [0.25, 0.75]", "4 rows where level == 1",
        "vrt: 4 responses", "code, cell 2",
    ):  # fmt: skip
        assert told.replace("30.0 s", "30 s") in page.text, told
    assert "license: other" not in page.text, "the card's header is for the Hub"


def test_stages_that_are_missing_are_named(page: Page) -> None:
    assert "This run is not complete. 8 of 11 stages are missing: 03_training/vrt-seed1, " in page.text
    assert page.text.count("not made yet") == 8


def test_a_complete_run_says_so(tmp_path: Path) -> None:
    write_report(make_run(tmp_path / "toy", stages=11), tmp_path / "out.html")
    text = Page(tmp_path / "out.html").text
    assert "Complete: all 11 stages have run to their end." in text and "not complete" not in text


def test_a_stage_that_would_run_again_is_told(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "00_start_here" / "manifest.json").read_text())
    manifest["inputs"]["TRIALS"] = 99
    (folder / "00_start_here" / "manifest.json").write_text(json.dumps(manifest))
    write_report(folder, tmp_path / "out.html")
    assert "would run again: 00_start_here. The table" in Page(tmp_path / "out.html").text


def test_a_run_that_has_not_begun_has_a_report(tmp_path: Path) -> None:
    save_run(build_run(load_profile("smoke"), tmp_path / "toy", "dartlib run smoke"), tmp_path / "toy" / "run.json")
    write_report(tmp_path / "toy", tmp_path / "out.html")
    assert "11 of 11 stages are missing" in Page(tmp_path / "out.html").text


def test_the_alternative_text_has_title_caption_and_values(page: Page) -> None:
    assert "Pass rates. By level.. vrt, level 1: 0.5 [0.25, 0.75];" in page.values("alt")


def test_a_moved_run_gives_the_same_report_without_a_path(folder: Path, tmp_path: Path) -> None:
    """Neither this machine's, nor that of the machine on which the notebook ran."""
    write_report(folder, tmp_path / "before.html")
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(folder, tmp_path / "elsewhere" / "toy"))
    write_report(moved, tmp_path / "after.html")
    before, after = Page(tmp_path / "before.html"), Page(tmp_path / "after.html")
    assert after.source == before.source
    for text in (after.text, html_entities.unescape(after.source)):
        for place in (tmp_path, REPOSITORY, Path.home(), "/scratch"):
            assert str(place) not in text, place
    assert 'RUN_FOLDER = "toy"' in after.text


ALLOWED = set(
    "html head meta title style body nav a h1 h2 h3 h4 h5 h6 p strong em code pre span div details summary dl dt dd ul "
    "ol li table caption thead tbody tr th td figure figcaption img button svg path br hr blockquote".split()
)


def test_hostile_text_is_shown_and_does_nothing(folder: Path, tmp_path: Path) -> None:
    write_figure(folder, "evil", points(), title=f'" onload="alert(1) {EVIL} $x$')
    png = base64.b64encode(PNG).decode()
    outputs = [output(text_html=f"<div onclick=alert(1)>bare {EVIL}<a href='javascript:alert(1)'>go</a><table>"),
               output(text_plain=EVIL), output(image_png=png[:4] + '" onerror="alert(1)' + png[4:]),
               nbformat.v4.new_output("stream", text=RESPONSE)]  # fmt: skip
    write_copy(folder, "00_start_here", cell(EVIL, *outputs), nbformat.v4.new_markdown_cell(EVIL + f"\n\n$x{EVIL}$"))
    write_report(folder, tmp_path / "out.html")
    page = Page(tmp_path / "out.html")
    assert {tag for tag, _ in page.tags} <= ALLOWED
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", source) for source in page.values("src"))
    assert all(address.startswith("#") for address in page.values("href"))
    policy = page.values("content")[0]
    assert "default-src 'none'" in policy and "script-src" not in policy and "img-src data:;" in policy
    assert SHOWN in page.text, "the very text, with its control characters made visible"
    assert "bare" in page.text and page.text.count("alert(1)") >= 6
    assert any('" onload="alert(1) </script>' in words for words in page.values("alt"))


def test_each_sample_is_stored_once(folder: Path, tmp_path: Path) -> None:
    write_figure(folder, "again", [*points(), {**points("level == 2")[0], "label": "vrt, level 2"}])
    write_report(folder, tmp_path / "out.html")
    page = Page(tmp_path / "out.html")
    stored = [attributes["id"] for tag, attributes in page.tags if "popover" in attributes]
    assert stored == [f"s{number}" for number in range(8)]
    opened = [target for target in page.values("popovertarget") if target]
    assert len(opened) == 4 + 8 + 8, "two points of level 1, one of level 2, and a close button each"
    assert page.text.count("The answer is 8.") == 8


def test_samples_of_an_outcome_are_trials_that_it_counts(folder: Path, tmp_path: Path) -> None:
    write_figure(folder, "pass_rates", points("strategy == 'vrt'", "02_synthesis/outcomes.parquet", 2))
    write_report(folder, tmp_path / "out.html")
    told = re.findall(r"query_id(q\d)trial(\d)stage02_synthesis", re.sub(r"\s", "", Page(tmp_path / "out.html").text))
    assert sorted(told) == [("q1", "0"), ("q1", "1"), ("q2", "0"), ("q2", "1")], "n_trials is 2"


def test_published_numbers_and_rows_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    lost = {**points("", "04_evaluation/base/items.parquet")[0], "label": "base"}
    published = {**points("", "")[0], "label": "paper", "value": None, "low": None, "high": None, "n": None}
    write_figure(folder, "pass_rates", [lost, published])
    write_report(folder, tmp_path / "out.html")
    text = Page(tmp_path / "out.html").text
    assert "base: 0.5" in text and "paper: no data" in text and "no rows of the run made this value" in text


def test_many_points_are_shown_by_bin(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven points where five are the most: three a bin, the last bin has two."""
    assert report.MOST_POINTS == 200
    monkeypatch.setattr(report, "MOST_POINTS", 5)
    many = [{**points()[0], "label": f"query {n}", "value": n / 100} for n in range(11)]
    write_figure(folder, "pass_rates", many)
    write_report(folder, tmp_path / "out.html")
    text = Page(tmp_path / "out.html").text
    assert "4 points" in text and "query 6 to query 8: 0.06 to 0.08" in text and "query 9 to query 10" in text
    assert "3 neighbouring points" in text


@pytest.mark.parametrize("source", ["math-train", "college-math-test", "metamathqa", "somebodys-file"])
def test_texts_that_may_not_be_passed_on_stay_here(source: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "toy", source)
    write_copy(folder, "01_bias_analysis", cell("show()", output(text_plain="Secret question 1?")))
    write_report(folder, tmp_path / "out.html")
    page = Page(tmp_path / "out.html")
    assert "Secret" not in html_entities.unescape(page.source) and "The answer is 8" not in page.text
    assert "query q1, trial" in page.text and "not shown, they may not be passed on" in page.text
    assert "Left out: they quote questions that may not be passed on" in page.text
    assert page.text.count(why_withheld(source)) == 4 + 1


def test_texts_under_an_open_licence_are_shown(tmp_path: Path) -> None:
    write_report(make_run(tmp_path / "toy", "gsm8k-train"), tmp_path / "out.html")
    text = Page(tmp_path / "out.html").text
    assert "Secret question 1? → 8 (reference 8)" in text and "code, cell 2" in text


def test_a_benchmark_found_in_the_data_keeps_the_copies_here(folder: Path, tmp_path: Path) -> None:
    """01 quotes the questions it finds."""
    found = {"benchmark": "math-test", "whole": 0, "part": 1}
    (folder / "01_bias_analysis" / "metrics.json").write_text(json.dumps({"contamination": [found]}))
    write_report(folder, tmp_path / "out.html")
    text = Page(tmp_path / "out.html").text
    assert "Left out: they quote" in text and "code, cell 2" not in text and "Secret question 1?" in text


def test_which_texts_may_be_passed_on() -> None:
    assert [why_withheld(name) for name in ("ladder-steps", "gsm8k-test", "theoremqa", "deepmind-mathematics")] == [
        ""
    ] * 4
    assert why_withheld("math-test") == "licence of math-test: MIT (the text is disputed; do not redistribute)"
    assert all(why_withheld(stem) for stem in ("steps", "arithmetic")), "a file of one's own, not a ladder"
    assert why_withheld("ladder-of-mine") == "no licence is known for ladder-of-mine"
    assert why_withheld("dart-math-hard") == "dart-math-hard holds the questions of other sets"


def test_a_large_report_has_fewer_samples_then_no_copies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.html"
    sizes, texts = [write_report(folder, out)], [Page(out).text]
    for _ in range(2):
        monkeypatch.setattr(report, "LARGEST", sizes[-1] - 1)
        sizes.append(write_report(folder, out))
        texts.append(Page(out).text)
    assert sizes[-1] == out.stat().st_size < sizes[1] < sizes[0]
    assert [re.findall(r"up to (\d+) of the samples", text) for text in texts] == [["10"], ["3"], ["1"]]
    assert ["code, cell 2" in text for text in texts] == [True, True, False]
    assert "Left out: with them this file would be too large" in texts[2]
    monkeypatch.setattr(report, "LARGEST", 1000)
    kept = out.read_bytes()
    with pytest.raises(RecordError, match="toy: its pictures alone are larger than 0 MB"):
        write_report(folder, out)
    assert out.read_bytes() == kept, "whole, or as it was"


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder" / "out.html"
    for _ in range(2):  # the second time it is there already
        assert cli.main(["report", str(folder), "--out", str(out)]) == 0
    assert f"written to {out} (0." in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["out.html"]


def test_bad_input_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("no-such-run", "no-such-run: no run.json"),
        ("../no-such-run", "run name '../no-such-run'"),
        (str(tmp_path / "empty"), "empty: no run.json"),
    ):
        assert cli.main(["report", name, "--out", str(tmp_path / "out.html")]) == 2
        assert said in (line := capsys.readouterr().err) and line.count("\n") == 1
    (folder / "02_synthesis" / "metrics.json").write_text("{")
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "out.html")]) == 2
    assert "02_synthesis/metrics.json: not readable" in (line := capsys.readouterr().err) and line.count("\n") == 1
    assert not (tmp_path / "out.html").exists()


def test_formulas_are_pictures_and_rare_commands_stay_text() -> None:
    drawn = markdown(r"Let $\frac{1}{2}$ and $$\sum_i x_i$$ be.")
    assert drawn.count("<svg") == 2 and 'aria-label="&#92;frac&#123;1&#125;&#123;2&#125;"' in drawn
    assert formula(r"\quad").startswith("<code>") and formula(r"\mathrm{ }").startswith("<code>"), "nothing to draw"
    assert formula(150 * "{" + "x" + 150 * "}").startswith("<code>")
    assert formula(r"\begin{cases}<b>") == "<code><span>&#92;</span>begin&#123;cases&#125;&#60;b&#62;</code>"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<p>a<b>b</b></p>", "<p>ab</p>"),
        ("<table><tr><td style=x>1", "<table><tr><td>1</td></tr></table>"),
        ("<style>p {}</style>x<script>y</script>", "x"),
        ("</div></table>x<br/>", "x<br>"),
        ("&lt;img&gt;", "&#60;img&#62;"),
        ("<![x[ <b>", "&#60;&#33;&#91;x&#91; &#60;b&#62;"),  # html.parser gives up
    ],
)
def test_foreign_html_is_rebuilt_of_bare_tags(given: str, expected: str) -> None:
    assert clean(given) == expected


def test_a_picture_that_was_not_published_is_kept(folder: Path, tmp_path: Path) -> None:
    """The static twin of a widget is nowhere else; a published figure is not repeated."""
    picture = output(image_png=base64.b64encode(PNG).decode())
    write_copy(folder, "00_start_here", cell("explore(view)", picture), cell("publish(figure)", picture))
    write_report(folder, tmp_path / "out.html")
    page = Page(tmp_path / "out.html")
    assert sum(words.startswith("Picture shown by 00_start_here, cell 2") for words in page.values("alt")) == 1
    assert page.text.count("published: see Figures") == 1


@contextmanager
def proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that lets nothing through and notes what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        do_CONNECT = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


def open_page(page: Path, profile: Path) -> tuple[str, str, list[str]]:
    """The page's tree after loading, what the console said, and hosts that were asked for."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --proxy-bypass-list=<-loopback> --enable-logging=stderr --dump-dom"
    )
    with proxy() as (port, asked):
        where = [f"--proxy-server=127.0.0.1:{port}", f"--user-data-dir={profile}", page.as_uri()]
        done = subprocess.run([CHROMIUM, *flags.split(), *where], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        told = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
        return done.stdout, told, [address for address in asked if "google" not in address]


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
def test_a_browser_loads_nothing_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    """The same hostile text does load and run on a page that holds it raw, so the check can fail."""
    raw = tmp_path / "raw.html"
    told_instead = EVIL.removeprefix("</script>").replace("alert", "console.log")  # which does not wait for a click
    raw.write_text(f"<script>document.title = 'ran'; console.log('ran')</script>{told_instead}")
    tree, told, asked = open_page(raw, tmp_path / "profile")
    assert "<title>ran</title>" in tree and "ran" in told and asked == ["http://tracker.example/p.png"]
    write_copy(folder, "00_start_here", cell("show()", output(text_html=EVIL), output(text_plain=EVIL)))
    write_report(folder, tmp_path / "out.html")
    tree, told, asked = open_page(tmp_path / "out.html", tmp_path / "profile")
    assert asked == [] and told == "" and "tracker.example" in html_entities.unescape(tree) and "<script" not in tree
