"""The one helper for showing text that a model or a data set wrote: in HTML, Markdown, a figure or a terminal.

Such text is hostile: it may hold tags, links, image loads, formulas or control characters.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, format (also right-to-left overrides), surrogates, unassigned


def escape(text: object, target: Literal["html", "figure", "terminal"] = "html") -> str:
    """``text`` so that a reader sees its characters and nothing is interpreted.

    ``html`` serves HTML and Markdown alike: punctuation becomes numeric entities, and ``$`` and the backslash sit in
    a span of their own, because notebooks typeset formulas in rendered text too. ``figure`` is for matplotlib: no
    mathtext; ``terminal`` is one line. Control characters other than tab and line feed become U+FFFD.
    """
    plain = "".join(_visible(character) for character in str(text))
    if target == "figure":
        return plain.replace("$", r"\$")
    if target == "terminal":
        return plain.replace("\n", " ⏎ ").replace("\t", " ")
    if target != "html":
        raise ValueError(f"escape target is 'html', 'figure' or 'terminal', got {target!r}")
    return re.sub(r"[!-/:-@\[-`{-~\n\t]", _entity, plain)


def _visible(character: str) -> str:
    return "\ufffd" if character not in "\n\t" and unicodedata.category(character) in _CONTROL else character


def _entity(match: re.Match[str]) -> str:
    entity = f"&#{ord(match[0])};"
    return f"<span>{entity}</span>" if match[0] in "$\\" else entity


def shorten(value: object, limit: int) -> str:
    """``value`` as text, cut at ``limit`` characters; not escaped."""
    text = str(value)
    return text if len(text) <= limit else text[:limit] + f" … ({len(text)} characters)"


def table_html(frame: pd.DataFrame, caption: str = "", limit: int = 400) -> str:
    """A DataFrame as an HTML table with every cell escaped and cut at ``limit`` characters; numbers to 3 digits."""
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    rows = []
    for row in frame.itertuples(index=False, name=None):
        rows.append("<tr>" + "".join(_cell(value, limit) for value in row) + "</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(value: object, limit: int) -> str:
    if isinstance(value, float):
        return f"<td>{'' if value != value else f'{value:.3g}' if abs(value) < 100 else f'{value:,.0f}'}</td>"
    return f'<td style="text-align: left; white-space: pre-wrap">{escape(shorten(value, limit))}</td>'
