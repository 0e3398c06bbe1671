"""The tokens of an answer as both readers walk them: what separates, relates, closes and names; sums of matrices."""

import re

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import Node

SEPARATORS = frozenset({",", ";", "and", "or", "⟦and⟧", "⟦or⟧", "⟦, and⟧", "⟦,and⟧", "&"})
RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\approx": "~", "\\in": "in",
             "\\equiv": "=", "\\to": "->", "\\sim": "~"}  # fmt: skip
CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "\\langle": "\\rangle"}
CLOSERS = frozenset(CLOSING.values())
NAME_ENDS = frozenset({"=", "\\approx", ":", "<", ">", "\\le", "\\ge", ";"})
# A side that only names what the other side gives.
_SUB = r"(?: _ (?:\{[^{}]*\}|\S+))?"
_SEGMENT = r"(?:\\(?:overline|bar|vec|overrightarrow|widehat) \{ )?(?:[A-Z]{1,4}|[A-Z](?: [A-Z]){1,3})(?: \})?"
NAME = re.compile(
    rf"(?:[fghFGHPEVTSA]|Var|Pr|\\mathbb \{{ [EP] \}}|\\(?:Phi|phi|Psi|psi|mu|rho|sigma|Gamma))(?: ')*{_SUB}"
    r"(?: \^ [({] - 1 [)}])? [(\[][^=]*[)\]]"
    rf"|[B-Zabcdpqruvwxy](?: ')*{_SUB}(?: ')* \( (?:[a-z\d]|- \d)(?: , [a-z\d])* \)"
    rf"|(?:m )?\\(?:angle|measuredangle|triangle) (?:m )?{_SEGMENT}(?: _ \S+)?|(?:\\overline|\\vec) \{{ [a-z] \}}"
    rf"|(?:m )?{_SEGMENT}|\\(?:sin|cos|tan) (?:\\angle )?[A-Z]{{1,3}}"
    rf"|(?:\\frac \{{ {_SEGMENT} \}} \{{ {_SEGMENT} \}}|{_SEGMENT} / {_SEGMENT})|\| {_SEGMENT} \|"
    r"|\[ [A-Z]{3,4} \]|(?:⟦[^⟧]*⟧|[A-Za-z]{4,})(?: (?:⟦[^⟧]*⟧|[A-Za-z]+))*|\\frac \{ d ?[a-z] \} \{ d ?[a-z] \}"
)
MAX_NESTING = 40  # open brackets


class Unreadable(ValueError):
    """The text is no formula that the readers know."""


class Meaningless(Unreadable):
    """A formula without a value, such as a division by zero."""


class TokenReader:
    """A place in a list of tokens. Raises Unreadable where brackets nest too deep."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        depth = 0
        for token in tokens:
            depth += (token in CLOSING) - (token in CLOSERS)
            if depth > MAX_NESTING:
                raise Unreadable("nesting")
        self.tokens = tokens
        self.place = 0

    @property
    def token(self) -> str | None:
        """The token at the reader's place, None at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    @property
    def next_token(self) -> str | None:
        """The token after it."""
        return self.tokens[self.place + 1] if self.place + 1 < len(self.tokens) else None

    def take(self, expected: str | None = None) -> str:
        """The token at the reader's place, which goes on to the next one."""
        token = self.token
        if token is None or (expected is not None and token != expected):
            raise Unreadable(f"expected {expected or 'more'}, found {token or 'the end'}")
        self.place += 1
        return token


def is_number(token: str | None) -> bool:
    """An unsigned decimal; Python's own test would let other scripts' digits pass."""
    return token is not None and re.match(r"\.?\d", token, re.ASCII) is not None


def is_integer(token: str) -> bool:
    """An unsigned integer."""
    return token.isascii() and token.isdecimal()


def scaled(found: Node, factor: Node) -> Node:
    """A number times a matrix; other collections are not multiplied."""
    if found[1][0] != "matrix":
        raise Unreadable("a collection in a product")
    rows = [[("value", algebra.multiply([factor, cell[1]]), "") for cell in row] for row in found[1][1]]
    return ("item", ("matrix", tuple(map(tuple, rows))))


def matrix_sum(terms: list[Node]) -> Node:
    """Matrices of one shape, added cell by cell."""
    if any(term[0] != "item" for term in terms) or len({tuple(map(len, term[1][1])) for term in terms}) > 1:
        raise Unreadable("matrices of several shapes in a sum")
    rows = [
        tuple(("value", algebra.add([cell[1] for cell in cells]), "") for cells in zip(*lines, strict=True))
        for lines in zip(*(term[1][1] for term in terms), strict=True)
    ]
    return ("item", ("matrix", tuple(rows)))
