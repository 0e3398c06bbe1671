"""The tokens of an answer as both readers walk them: what separates, relates and closes; what cannot be read."""

from __future__ import annotations

import re

SEPARATORS = frozenset({",", ";", "and", "or", "⟦and⟧", "⟦or⟧", "⟦, and⟧", "⟦,and⟧", "&"})
RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\approx": "~", "\\in": "in",
             "\\equiv": "=", "\\to": "->", "\\sim": "~"}  # fmt: skip
CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "\\langle": "\\rangle"}
CLOSERS = frozenset(CLOSING.values())
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
