"""The glossary: every term stands in bold at its first use in reading order, in the notebook that its row names."""

from __future__ import annotations

import re

import pytest
from lesson_cells import prose_of

from dartlib.pipeline.stages import NOTEBOOKS

GLOSSARY = NOTEBOOKS / "GLOSSARY.md"
READING_ORDER = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
_ROW = re.compile(
    r"^\| (?P<term>[^|]+) \| (?P<meaning>[^|]+) \| \[(?P<number>\d\d)\]\((?P<file>[^)]+)\) \|$", re.MULTILINE
)
# Not prose: the aims (they may name what will be defined), code, formulas, headings, a link's address
_NOT_PROSE = re.compile(
    r"^\*\*Aims\*\*.*\n\n(?:- .*\n)+|^#+ .*$|\]\([^)]*\)"
    r"|```[\s\S]*?```|`[^`\n]*`|\$\$[\s\S]*?\$\$|\$[^$\n]+\$",
    re.MULTILINE,
)


def place_of(term: str, texts: dict[str, str]) -> str:
    """Where a term is first used, as ``notebook`` or ``notebook, not bold: …words around it…``; empty: nowhere."""
    case = 0 if sum(map(str.isupper, term)) > 1 else re.IGNORECASE  # ZeRO is not zero
    word = re.compile(rf"(?<![\w-]){re.escape(term)}(?:s|es)?(?![\w-])", case)
    for name, text in texts.items():
        for paragraph in re.split(r"\n\s*\n", _NOT_PROSE.sub(" ", text)):
            found = word.search(paragraph)
            if found:
                bold = paragraph[: found.start()].count("**") % 2 == 1
                around = " ".join(paragraph[max(0, found.start() - 40) : found.end() + 40].split())
                return name if bold else f"{name}, not bold: …{around}…"
    return ""


def test_every_term_is_bold_where_it_is_first_used() -> None:
    texts = {name: prose_of(name) for name in READING_ORDER}
    rows = list(_ROW.finditer(GLOSSARY.read_text(encoding="utf-8")))
    problems = [
        f"{row['term']}: {found or 'nowhere'} (the glossary says {row['file']})"
        for row in rows
        if (found := place_of(row["term"], texts)) + ".ipynb" != row["file"]
    ]
    assert not problems, "\n" + "\n".join(problems)
    assert len(rows) >= 50


def test_the_glossary_is_in_order_and_whole() -> None:
    text = GLOSSARY.read_text(encoding="utf-8")
    terms = [row["term"] for row in _ROW.finditer(text)]
    assert terms == sorted(terms, key=str.lower) and len(set(terms)) == len(terms)
    assert len(terms) == sum(line.startswith("| ") for line in text.splitlines()) - 2  # head and rule
    assert all(row["file"].startswith(row["number"]) for row in _ROW.finditer(text))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A **cap** ends it, and the cap is low.", "01"),
        ("**The cap is the end.**", "01"),
        ("A cap ends it: the **cap** is low.", "01, not bold: …A cap ends it: the **cap** is low.…"),
        ("`cap`, $cap$ and [here](cap.ipynb): a **cap**.", "01"),
        ("**Aims** - you can\n\n- say cap;\n\nThe **cap** ends it.", "01"),
        ("It is a handicap, and cap-like.", ""),
    ],
)
def test_first_uses_are_found(text: str, place: str) -> None:
    assert place_of("cap", {"01": text, "02": ""}) == place


def test_an_earlier_notebook_counts() -> None:
    assert place_of("cap", {"00": "Caps end it.", "01": "A **cap**."}) == "00, not bold: …Caps end it.…"
