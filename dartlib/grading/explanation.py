"""Why an answer was judged as it was: what was read, in which form, and the rule that decided."""

import textwrap
from dataclasses import dataclass

from dartlib.grading.equality.algebra import Node
from dartlib.grading.equality.notation import MAX_LENGTH, normalise
from dartlib.grading.equality.parsing import Item, read_answer
from dartlib.grading.equality.parsing_tokens import Unreadable
from dartlib.grading.pool import GradingPool
from dartlib.records import Query, Verdict

# Reason code -> the rule in one sentence, with why it is so.
RULES = {
    "string": "same text in one spelling: spacing, fonts, \\dfrac and \\left change nothing on paper",
    "number": "numbers are compared exactly, as the reference implementation does; a decimal reference is met within "
    "1e-6 relative, and an error bound counts where the benchmark gives one (OlympiadBench)",
    "formula": "formulas: one canonical form, or values that differ at a point (Math-Verify pull request 82: 1-1/e is "
    "not 1+1/e)",
    "symbolic": "SymPy found the same (or another) value to 30 digits at several points",
    "math-verify": "notation that only math-verify reads (integrals, sums, limits)",
    "collection": "tuples, intervals and matrices keep their order, sets and enumerations do not (the reference "
    "implementation called (1,2) and (2,1) equal)",
    "relation": "both sides of a relation must agree, or the equations be multiples (Math-Verify issue 14: "
    "unrelated equations were both read as 0)",
    "choice": "a choice is its letter",
    "form": "the query asks for another form (factored, expanded, simplified) than this equal one",
    "text": "words are compared as words: none is not 'not defined', months is not Monday (reference implementation)",
    "unread": "no formula could be read and the texts differ: in doubt, the answers differ",
    "undefined": "one of the answers has no value (a division by zero)",
    "unparsed": "SymPy or math-verify failed on it: not shown to be equal",
    "empty": "there is nothing to compare",
    "length": "the response was cut by its length limit: it has no answer, as in the paper",
    "no_final_answer": "no explicit final answer: a last number would be a guess",
    "seconds": "the comparison took too long: not shown to be equal",
    "memory": "the comparison needed too much memory: not shown to be equal",
    "crash": "the comparing process died: not shown to be equal",
    "limit": "beyond a limit nothing is evaluated; the structure differs, so the answers count as different",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict with everything that led to it. Texts come from a model: escape them before showing them as HTML."""

    verdict: Verdict
    reason: str
    rule: str
    extracted: str | None
    gold_form: str
    answer_form: str

    def __str__(self) -> str:
        rows = [
            ("verdict", f"{self.verdict.value} ({self.reason})"),
            ("rule", textwrap.fill(self.rule, 80).replace("\n", "\n" + 19 * " ")),
            ("extracted", self.extracted),
        ]
        rows += [("reference read as", self.gold_form), ("answer read as", self.answer_form)]
        return "\n".join(f"{name:>17}: {value if value is not None else '-'}" for name, value in rows)


def explain(
    *,
    gold: str,
    response: str,
    query: str = "",
    tolerance: float | None = None,
    answer_type: str = "number",
    lenient: bool = False,
) -> Explanation:
    """Grade one response as a ``GradingPool`` does, limits included, and say why.

    ``tolerance``: largest absolute error, where the item carries one. Starts a worker only for what needs SymPy.
    """
    item = Query(
        query_id="", source="", query=query, reference_answer=gold, tolerance=tolerance, answer_type=answer_type
    )
    with GradingPool(lenient=lenient) as grading:
        ((answer, verdict, reason),) = grading.grade_many([(item, response, "stop")])
    return Explanation(
        verdict=verdict,
        reason=reason,
        rule=RULES[reason.partition(":")[0]],
        extracted=answer,
        gold_form=read_form(gold),
        answer_form=read_form(answer or ""),
    )


def read_form(answer: str) -> str:
    """The answer as the grader reads it, in plain notation."""
    if len(answer) > MAX_LENGTH:
        return f"text of {len(answer):,} characters"
    text = normalise(answer)
    try:
        ordered, items = read_answer(text)
    except Unreadable as error:
        return f"text {text!r} ({error})" if text else "nothing"
    shown = ", ".join(_item(item) for item in items)
    return shown if len(items) == 1 else f"{'list' if ordered else 'in any order'}: {shown}"


def _item(item: Item) -> str:
    kind = item[0]
    if kind == "value":
        return _node(item[1]) + (f" [{item[2]}]" if item[2] else "")
    if kind == "matrix":
        return "matrix(" + "; ".join(", ".join(_item(part) for part in row) for row in item[1]) + ")"
    parts = [_item(part) for part in item[-1]]
    if kind == "relation":
        return parts[0] + "".join(f" {sign} {part}" for sign, part in zip(item[1], parts[1:], strict=True))
    inside = {"union": " ∪ ", "meet": " and ", "minus": " without ", "ratio": " : "}.get(kind, ", ").join(parts)
    return f"{item[1]}{inside}{item[2]}" if kind == "tuple" else f"{{{inside}}}" if kind == "set" else inside


def _node(node: Node) -> str:
    kind = node[0]
    if kind in ("num", "sym"):
        return str(node[1])
    if kind == "add":
        return "(" + " + ".join(_node(part) for part in node[1]) + ")"
    if kind == "mul":
        return "*".join(_node(part) for part in node[1])
    if kind == "pow":
        return f"{_node(node[1])}^({_node(node[2])})"
    return f"{node[1]}({', '.join(_node(part) for part in node[2])})"
