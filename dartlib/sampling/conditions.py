"""A pandas query string as an SQL condition, with what a pandas query would keep.

The text is parsed and translated, never evaluated: it may hold names of columns, constants, arithmetic, comparisons,
``in``, ``and``, ``or``, ``not`` (also ``&``, ``|``, ``~``) and the few methods below. As in pandas, an empty value is
equal to nothing and different from everything.
"""

import ast
import io
import tokenize
from collections.abc import Collection, Sequence

from dartlib.records import did_you_mean
from dartlib.sampling.pool import PoolError

_COMPARISONS = {ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%"}
_METHODS = {
    "isna()": "{} IS NULL",
    "notna()": "{} IS NOT NULL",
    "str.contains()": "coalesce(regexp_matches({}, {}), false)",
    "str.startswith()": "coalesce(starts_with({}, {}), false)",
    "str.endswith()": "coalesce(ends_with({}, {}), false)",
}
_SYMBOLS = {"&": "and", "|": "or"}  # which in pandas bind as these words do


class Condition:
    """``sql`` with ``?`` for the constants in ``values``; ``names`` are the columns that it speaks of.

    Raises PoolError for a text that is no such condition, or that names a column which does not exist.
    """

    def __init__(self, text: str, columns: Collection[str]) -> None:
        self._text, self._columns = text, columns
        self.values: list[object] = []
        self.names: set[str] = set()
        try:
            tokens = tokenize.generate_tokens(io.StringIO(text.strip()).readline)
            words = tokenize.untokenize((token.type, _SYMBOLS.get(token.string, token.string)) for token in tokens)
            self.sql = self._condition(ast.parse(words.strip(), mode="eval").body)
        except (SyntaxError, tokenize.TokenError) as error:
            raise self._refusal(error.args[0]) from None

    def _condition(self, node: ast.expr) -> str:
        match node:
            case ast.BoolOp(op=op, values=parts):
                word = " AND " if isinstance(op, ast.And) else " OR "
                return f"({word.join(self._condition(part) for part in parts)})"
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=part):
                return f"(NOT {self._condition(part)})"
            case ast.Compare(left=left, ops=operators, comparators=right):
                pairs = zip([left, *right], operators, right, strict=False)
                return f"({' AND '.join(self._comparison(*pair) for pair in pairs)})"
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=arguments, keywords=[]):
                if isinstance(owner, ast.Attribute) and owner.attr == "str":
                    owner, name = owner.value, f"str.{name}"
                pattern = _METHODS.get(f"{name}()", "")
                if pattern and pattern.count("{}") == 1 + len(arguments):
                    return pattern.format(*(self._value(part) for part in (owner, *arguments)))
        raise self._refusal(f"{ast.unparse(node)!r} is no condition")

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> str:
        if isinstance(right, ast.List | ast.Tuple) and isinstance(operator, ast.In | ast.NotIn | ast.Eq | ast.NotEq):
            listed = [f"coalesce({self._value(left)} = {self._value(item)}, false)" for item in right.elts]
            inside = " OR ".join(listed) or "false"
            return f"({inside})" if isinstance(operator, ast.In | ast.Eq) else f"(NOT ({inside}))"
        if type(operator) not in _COMPARISONS:
            raise self._refusal(f"{ast.unparse(right)!r} is no list")
        empty = "true" if isinstance(operator, ast.NotEq) else "false"
        return f"coalesce({self._value(left)} {_COMPARISONS[type(operator)]} {self._value(right)}, {empty})"

    def _value(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                if name not in self._columns:
                    raise PoolError(f"samples have no column {name!r}; {did_you_mean(name, self._columns)}")
                self.names.add(name)
                return f'"{name}"'
            case ast.Constant(value=str() | int() | float() as value):
                self.values.append(value)
                return "?"
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return f"(-{self._value(part)})"
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                return f"({self._value(left)} {_ARITHMETIC[type(operator)]} {self._value(right)})"
        raise self._refusal(f"{ast.unparse(node)!r} is no column, number or text")

    def _refusal(self, why: str) -> PoolError:
        return PoolError(
            f"where={self._text!r} is no pandas query string that is understood here ({why}): compare columns with "
            f"constants, join with and, or, not; methods: {', '.join(_METHODS)}"
        )


def names_of(columns: Sequence[str], known: Collection[str]) -> list[str]:
    """The columns as a list; PoolError names the first that does not exist, and the closest that does."""
    for name in columns:
        if name not in known:
            raise PoolError(f"samples have no column {name!r}; {did_you_mean(name, known)}")
    return list(columns)
