"""Meaning-preserving rewrites of reference answers, and edits that change them. Imports nothing of the grader.

A rewrite returns None where it does not apply (nothing would change, or the change could alter the meaning).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_COMMAND_THEN_LETTER = re.compile(r"(\\[A-Za-z]+) (?=[A-Za-z])")


def spaced(answer: str) -> str | None:
    """Spaces around signs and after commas, but not within numbers or words."""
    if _has_words(answer) or "{,}" in answer or re.search(r"\de[+-]\d", answer):
        return None
    text = re.sub(r"(?<=[\w})\]])\s*([=+])\s*(?=[\w\\({\[-])", r"  \1  ", answer)
    return re.sub(r"(?<![\d{]),(?!\\!)\s*|,(?!\\!)\s*(?!\d)(?=[\\(\[{a-zA-Z-])", ",  ", text)


def tight(answer: str) -> str | None:
    """No spaces but those that end a command."""
    if _has_words(answer) or re.search(r"\d\s+[-+]?\s*\d|\\ ", answer):
        return None
    kept = _COMMAND_THEN_LETTER.sub("\\1\x00", answer)
    return re.sub(r"[ ~]+", "", kept).replace("\x00", " ")


def thin_spaced(answer: str) -> str | None:
    """LaTeX thin spaces after commas and before opening brackets of collections."""
    if _has_words(answer) or "\\" not in answer:
        return None
    return re.sub(r",\s+", ",\\, ", answer).replace(" \\cup ", " \\; \\cup \\; ").replace("=", "\\;=\\;")


def large_fractions(answer: str) -> str | None:
    """``\\dfrac`` for ``\\frac``."""
    return re.sub(r"\\frac(?![a-z])", r"\\dfrac", answer)


def small_fractions(answer: str) -> str | None:
    """``\\tfrac`` for ``\\frac``."""
    return re.sub(r"\\d?frac(?![a-z])", r"\\tfrac", answer)


def growing_brackets(answer: str) -> str | None:
    """``\\left(`` and ``\\right)`` for plain round brackets, when all of them are plain and balanced."""
    if "\\left" in answer or "\\right" in answer or answer.count("(") != answer.count(")") or _has_words(answer):
        return None
    return answer.replace("(", "\\left(").replace(")", "\\right)")


def fixed_brackets(answer: str) -> str | None:
    """Brackets without ``\\left`` and ``\\right``."""
    return re.sub(r"\\(?:left|right)(?![a-z])\.?", "", answer)


def text_units(answer: str) -> str | None:
    """Units set in ``\\text`` instead of ``\\mathrm``, and plain words after a number in ``\\text``."""
    changed = re.sub(r"\\(?:mathrm|textrm)\{\s*~?\s*([^{}~]*)\}", r"\\text{ \1}", answer)
    return re.sub(r"(?<=\d) ([a-z]{2,}(?: [a-z]+)*)\.?$", r"\\text{ \1}", changed)


def roman_units(answer: str) -> str | None:
    """Words of ``\\text`` in ``\\mathrm``."""
    return re.sub(r"\\text ?\{\s*([A-Za-z]+)\s*\}", r"\\mathrm{~\1}", answer)


def delimited(answer: str) -> str | None:
    """Inline delimiters added to a bare formula, or removed from one that is all formula."""
    if re.fullmatch(r"\$[^$]+\$", answer):
        return answer[1:-1]
    return None if "$" in answer else f"\\({answer}\\)"


def displayed(answer: str) -> str | None:
    """Display delimiters around a bare formula."""
    return None if "$" in answer else f"$$ {answer} $$"


def emphasised(answer: str) -> str | None:
    """Markdown emphasis around all of it."""
    return f"**{answer}**"


def stopped(answer: str) -> str | None:
    """A full stop at the end."""
    return None if answer.endswith(".") else f"{answer}."


def plain(answer: str) -> str | None:
    """LaTeX in plain notation: ``(a)/(b)``, ``sqrt(a)``, ``pi``, ``*``, ``x^(2)``."""
    if _has_words(answer) or re.search(r"begin|mathbf|hat|bar|int|lim|sum|prime|array", answer):
        return None
    text = answer.replace("$", "") if re.fullmatch(r"\$[^$]+\$", answer) else answer
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text).replace("\\\\", "\x00")
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", re.sub(r"\\[dt]frac", r"\\frac", text))
    previous = None
    while text != previous:
        previous = text
        text = re.sub(r"(?<=\d)\s*\\frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2", text)
        text = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\\sqrt\s*\[(\w+)\]\s*\{([^{}]*)\}", r"((\2)^(1/\1))", text)
        text = re.sub(r"\^\s*\{([^{}\\]*)\}", r"^(\1)", text)
    signs = {"\\cdot": "*", "\\times": "*", "\\infty": "infinity", "\\leq": "<=", "\\geq": ">=", "\\le": "<=",
             "\\ge": ">=", "\\pm": "±", "\\cup": "∪", "\\pi": "pi", "\\%": "%"}  # fmt: skip
    for sign, written in signs.items():
        text = re.sub(re.escape(sign) + r"(?![a-z])", written, text)
    text = re.sub(r"\\(sin|cos|tan|sec|csc|cot|ln|log|theta|alpha|beta|lambda)(?![a-z])", r" \1", text)
    return None if "\\" in text or "\x00" in text or re.search(r"[{}]", text) else text


def starred(answer: str) -> str | None:
    """Plain powers and products as in a program, where there are any."""
    return None if "\\" in answer or not re.search(r"\^|\d[a-z]", answer) else answer.replace("^", "**")


def latex(answer: str) -> str | None:
    """Plain fractions and products in LaTeX."""
    text = re.sub(r"(?<![\w.}^/])(\d+) ?/ ?(\d+)(?![\w./^{])", r"\\frac{\1}{\2}", answer)
    return text if "\\begin" in text else text.replace("*", " \\cdot ")


def grouped_thousands(answer: str) -> str | None:
    """Thousands commas in a bare integer."""
    return f"{int(answer):,}" if re.fullmatch(r"-?\d{4,}", answer) else None


def zero_padded(answer: str) -> str | None:
    """A trailing zero, or ``.0`` after an integer."""
    if not re.fullmatch(r"-?\d+(\.\d+)?", answer):
        return None
    return answer + ("0" if "." in answer else ".0")


REWRITES: tuple[Callable[[str], str | None], ...] = (
    spaced, tight, thin_spaced, large_fractions, small_fractions, growing_brackets, fixed_brackets, text_units,
    roman_units, delimited, displayed, emphasised, stopped, plain, starred, latex, grouped_thousands, zero_padded,
)  # fmt: skip


def rewrites(answer: str) -> dict[str, str]:
    """Name of the rewrite -> rewritten answer, for those that apply and change something."""
    found = {rewrite.__name__: rewrite(answer) for rewrite in REWRITES}
    return {name: text for name, text in found.items() if text is not None and text != answer}


def edits(answer: str) -> dict[str, str]:
    """Answers that differ from this one: a changed digit, the other sign, one more."""
    text = answer.strip().strip("$").strip()
    found = {}
    last = text.rfind("=") if text.count("=") > 1 else 0  # a chain of equations ends in its value
    if (
        places := [match.start() for match in re.finditer(r"\d", text) if match.start() >= last]
    ) and "^{0}" not in text:
        place = places[len(places) // 2]
        found["digit"] = f"{text[:place]}{(int(text[place]) + 3) % 10}{text[place + 1 :]}"
    if re.fullmatch(r"-?[\d.]*[1-9][\d.]*", text):
        found["sign"] = text[1:] if text.startswith("-") else f"-{text}"
    if re.fullmatch(r"-?\d+", text):
        found["plus_one"], found["minus_one"] = str(int(text) + 1), str(int(text) - 1)
    elif not _has_words(text) and not re.search(
        r"[,=<>&]|\\(?:le|ge|in|cup|pm|text|mathrm|begin|infty|%|circ)|[CcKk]$", text
    ):
        found["plus_one"], found["minus_one"] = f"{text} + 1", f"{text} - 1"
    if (
        not re.search(r"[,=<>&]|\\(?:le|ge|in|cup|pm|begin|text)", text)
        and not _has_words(text)
        and "sign" not in found
    ):
        if re.search(r"[1-9a-z]", re.sub(r"\\[a-z]+", "", text)) or "\\pi" in text:
            found["sign"] = f"-({text})"
    return found


def _has_words(answer: str) -> bool:
    """Words outside of commands: rewriting around them may not keep the meaning."""
    bare = re.sub(r"\\[A-Za-z]+", " ", answer)
    return (
        "\\text" in answer
        or "\\mathrm" in answer
        or re.search(r"[A-Za-z]{3}|\b(?:and|or|at|is|the|in|for)\b", bare) is not None
    )


def known_unequal(first: str, second: str) -> bool:
    """Whether two references differ beyond doubt: plain numbers more than 1e-3 apart, or different kinds."""
    kinds = _kind(first), _kind(second)
    if kinds != ("number", "number"):
        return kinds[0] != kinds[1] and "other" not in kinds
    left, right = (float(text.strip("$ ").replace(",", "")) for text in (first, second))
    return abs(left - right) > 1e-3 * max(abs(left), abs(right))


def _kind(answer: str) -> str:
    text = answer.strip().strip("$").strip()
    if re.fullmatch(r"-?\d+(,\d{3})*(\.\d+)?", text):
        return "number"
    if re.fullmatch(r"\((-?\d+)(, ?-?\d+)+\)", text):
        return "tuple"
    if re.fullmatch(r"\\text\{[A-Za-z]{3,}\}|True|False|[a-z]{4,}", text):
        return "words"
    return "formula with a variable" if re.fullmatch(r"-?\d*[a-z]\^\{?\d\}?[^=]*[a-z][^=,]*", text) else "other"
