"""Markdown, formulas and executed notebooks as HTML that can do nothing: a few plain tags, no attributes, no scripts.

Whatever came in, the outcome is built of our own tags and of text that went through `escape`; nothing is passed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dartlib.analysis import escape
from dartlib.pipeline.execution import scrub
from dartlib.pipeline.notebooks import source_of
from dartlib.records import RecordError

_KEPT = set("p h3 h4 h5 h6 ul ol li blockquote pre code em strong table caption thead tbody tr th td br hr".split())
_UNSEEN = {"script", "style", "template", "title"}
_GLYPHS = 100  # units of an SVG picture per em
LONGEST = 20_000  # characters of one text that are shown


def shown(text: object) -> Markup:
    """Any text as HTML: without this machine's paths, escaped, and cut where it is very long."""
    plain = scrub(str(text))
    return Markup(escape(plain if len(plain) <= LONGEST else f"{plain[:LONGEST]} … ({len(plain):,} characters)"))


def attribute(text: object) -> Markup:
    """The same inside an attribute, where no tag is understood; what is escaped already is not escaped again."""
    return Markup(re.sub(r"</?span>", "", text if isinstance(text, Markup) else shown(text)))


def clean(html: str) -> Markup:
    """Foreign HTML reduced to paragraphs, lists, tables and code, without any attribute; the text of all else stays."""
    cleaner = _Cleaner()
    try:
        cleaner.feed(html)
        cleaner.close()
    except AssertionError:  # what html.parser makes of some malformed declarations
        return shown(html)
    while cleaner.open:
        cleaner.handle_endtag(cleaner.open[-1])
    return Markup("".join(cleaner.parts))


class _Cleaner(HTMLParser):
    """Writes the tags kept bare and balanced, and all text escaped; what `markdown` marked as ``math`` as formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.parts += [f"<{tag}>"] if tag in _KEPT else []
        self.open += [tag] if tag not in ("br", "hr", "img") else []

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open:
            self.parts += [f"</{self.open[-1]}>"] if self.open[-1] in _KEPT else []
            if self.open.pop() == tag:
                break

    def handle_data(self, data: str) -> None:
        if not _UNSEEN & set(self.open):
            self.parts.append(formula(data) if self.open[-1:] == ["math"] else shown(data))


def markdown(text: str) -> Markup:
    """Markdown as HTML with its formulas, headings below those of a report; links and pictures leave their words."""
    import mistune

    writer = mistune.HTMLRenderer(escape=False)
    convert = mistune.create_markdown(renderer=writer, plugins=["table", "math"])
    for kind in ("inline_math", "block_math"):
        writer.register(kind, lambda _, tex: f"<math>{mistune.escape(tex)}</math>")
    return clean(re.sub(r"(</?h)(\d)", lambda found: f"{found[1]}{min(6, int(found[2]) + 2)}", str(convert(text))))


def formula(tex: str) -> Markup:
    """A formula as an SVG picture in the text's own colour; as it was written where matplotlib cannot set it.

    No library at hand writes MathML, and matplotlib is here anyway: its mathtext sets all but rare commands.
    """
    from matplotlib.textpath import TextPath

    tex = " ".join(tex.split())
    try:
        path = TextPath((0, 0), f"${tex}$", size=_GLYPHS)
        left, bottom, width, height = (round(number) for number in path.get_extents().bounds)
    except (ValueError, AttributeError, RecursionError):  # also what draws nothing, and hundreds of nested braces
        return Markup("<code>{}</code>").format(shown(tex))
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = ((letters[int(code)], points if code != 79 else ()) for points, code in path.iter_segments(simplify=False))
    drawn = "".join(letter + " ".join(f"{number:.0f}" for number in points) for letter, points in steps)
    return Markup(
        f'<svg class="formula" role="img" aria-label="{attribute(tex)}" viewBox="{left} {-bottom - height} {width} '
        f'{height}" style="height: {height / _GLYPHS:.2f}em; vertical-align: {bottom / _GLYPHS:.2f}em">'
        f'<path transform="scale(1 -1)" d="{drawn}"/></svg>'
    )


def read_json(path: Path) -> Any:
    """A JSON file of a run without the paths of this machine, nor of the one where a notebook's run folder lay.

    Raises RecordError when it is none.
    """
    try:
        text = scrub(path.read_text(encoding="utf-8"))
        for place in re.findall(r'RUN_FOLDER = \\"(/[^"\\]+)\\"', text):
            text = text.replace(place, Path(place).name)
        return json.loads(text)
    except ValueError as error:
        raise RecordError(f"{path}: not readable ({error}): run the stage that wrote it again") from None


def cells_of(path: Path) -> Iterator[dict[str, Any]]:
    """The cells of an executed copy: ``prose``, or ``code`` with its ``outputs``, each ready to be shown."""
    for cell in read_json(path)["cells"]:
        source = source_of(cell)
        if cell["cell_type"] == "markdown":
            yield {"prose": markdown(source)}
        elif cell["cell_type"] == "code":
            outputs = [_output(output, "publish(" in source) for output in cell.get("outputs", [])]
            yield {"code": source, "count": cell.get("execution_count"), "outputs": outputs}


def _output(output: Mapping[str, Any], published: bool) -> dict[str, Any]:
    """One output: ``html``, or the base64 of a ``picture``. What `publish` showed is among the figures already."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = Markup(re.sub(r"[^A-Za-z0-9+/=]", "", "".join(data["image/png"])))
        return {"html": "published: see Figures"} if published else {"picture": picture}
    if "text/html" in data:
        return {"html": clean("".join(data["text/html"]))}
    text = "\n".join(output.get("traceback", [])) or "".join(output.get("text", data.get("text/plain", "")))
    return {"html": Markup("<pre>{}</pre>").format(shown(re.sub(r"\x1b\[[\d;]*m", "", text)))}
