"""Over 2,000 hostile answers: code in disguise, numbers nobody can compute, nesting, size, odd characters."""

from __future__ import annotations

import random

CANARY = "dartlib_was_here"  # a file that any executed payload would create
_CODE = (
    f"__import__('os').system('touch {CANARY}')",
    f"open('{CANARY}','w')",
    f"eval(\"open('{CANARY}','w')\")",
    f"exec('import os; os.mkdir(\"{CANARY}\")')",
    f"().__class__.__base__.__subclasses__()[40]('{CANARY}','w')",
    f"[x for x in ().__class__.__base__.__subclasses__() if x.__name__=='Popen'][0](['touch','{CANARY}'])",
    f"lambda: open('{CANARY}','w')",
    f"Symbol('x').func.__globals__['__builtins__']['open']('{CANARY}','w')",
    f"{{open('{CANARY}','w')}}",
    f'f\'{{open("{CANARY}","w")}}\'',
    f"%(open('{CANARY}','w'))s",
    f'sympify(\'open("{CANARY}","w")\')',
    f"parse_expr(\"open('{CANARY}','w')\")",
    f"\\immediate\\write18{{touch {CANARY}}}",
    f"\\input{{|touch {CANARY}}}",
    f"\\openout1={CANARY}",
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"<script>fetch('{CANARY}')</script>",
    f"!!python/object/apply:os.system ['touch {CANARY}']",
    "os.environ",
    "{0.__class__.__mro__}",
    "breakpoint()",
    "__debug__",
    "globals()",
    "\\csname end\\endcsname",
    "\\def\\x{\\x\\x}\\x",
    "'; DROP TABLE grades; --",
)
_FRAMES = (
    "{}", "${}$", "\\text{{{}}}", "\\operatorname{{{}}}", "\\frac{{{}}}{{2}}", "x = {}", "({}, 1)", "\\sqrt{{{}}}",
    "5 + {}",
    "\\int {} dx", "\\sum_{{n=1}}^{{3}} {}", "\\mathrm{{{}}}", "[{}]", "\\{{{}\\}}", "\\log_{{{}}} 2", "5; {}",
    "2^{{{}}}",
    "\\lim_{{x \\to 0}} {}",
)  # fmt: skip
_NUMBERS = (
    "9^{9^{9^{9}}}", "9**9**9**9", "(10^8)!", "1/9999999999!", "((9!)!)!", "2^{99999999}", "10^{10^{10}}", "1e9999",
    "1e-9999", "9" * 3999, "(1+10^{-9999})^{10^{9999}}", "\\binom{99999999}{49999999}", "\\sqrt[99999999]{2}",
    "0^{-1}", "1/0", "\\frac{1}{0}", "0^0", "\\log 0", "\\ln(-1)", "\\tan(\\pi/2)", "e^{e^{e^{e^{e}}}}",
    "i^{i^{i^{i}}}",
    "\\ln(\\ln(\\ln(\\ln(10^{100}))))", "\\frac{10^{999}}{10^{-999}}", "(2^{999})^{999}", "x^{999}y^{999}(x+y)^{999}",
    "1000!", "1001!", "\\frac{1000!}{999!}", "2^{2^{2^{2^{2^{x}}}}}",
)  # fmt: skip
_ODD = (
    "\x00", "5\x00", "\ud7ff", "５", "٥", "๕", "5\u200b", "\u202e5", "5\ufeff", "²", "5²", "⅕", "Ⅴ", "−5", "‐5",
    "𝟓", "①", "5̸",
    "\u2028", "\r\n5\r\n", "\t5", "\x1b[31m5", "\\", "\\\\", "$", "$$", "{", "}", "{}", "\\{", "()", "[", "]", "|",
    "||",
    "|5", "^", "_", "5^", "5_", "^5", "!", "5!!", "%", "5%%", "&", "\\begin{pmatrix}", "\\end{pmatrix}", "\\frac",
    "\\frac{}{}",
    "\\sqrt", "\\sqrt[]{}", "\\left", "\\right.", "\\boxed{", "\\boxed{}", "±", "\\pm\\pm\\pm 5", "=", "==",
    "5=5=5", "<", ">5<",
    ",", ",,", "5,,5", ";", ":", "⟦5⟧", "⟦", "⟧", "\\text{⟦5⟧}", "null", "NaN", "nan", "None", "undefined", "inf",
    "\\infty",
    "-\\infty", "\\infty-\\infty", "0 \\cdot \\infty", "\\infty/\\infty",
)  # fmt: skip


def hostile_answers() -> list[str]:
    """All of them, in a fixed order."""
    answers = [frame.format(code) for code in _CODE for frame in _FRAMES]
    answers += [frame.format(number) for number in _NUMBERS for frame in _FRAMES]
    answers += [*_ODD, *(frame.format(text) for text in _ODD for frame in _FRAMES[:5])]
    answers += [opening * n + "5" + closing * n for n in (5, 50, 500, 1900) for opening, closing in _NESTED]
    answers += [unit * (size // len(unit)) for unit in _REPEATED for size in (300, 3999, 100_000)]
    answers += [unit * (3990 // len(unit)) + "1" for unit in _REPEATED]  # with something to end on
    answers += ["x" * 2_000_000, "9" * 2_000_000, "(" * 1_000_000, "\\frac{1}{" * 200_000, "5," * 500_000]
    answers.append(" " * 1_000_000 + "5")
    rng = random.Random(0)
    pieces = "\\frac \\sqrt { } ( ) ^ _ ! 9 x + - / , | \\int = \\pm 99".split()
    return answers + ["".join(rng.choices(pieces, k=rng.randint(3, 60))) for _ in range(700)]


_NESTED = (
    ("(", ")"), ("{", "}"), ("[", "]"), ("\\{", "\\}"), ("\\sqrt{", "}"), ("\\frac{1}{", "}"), ("\\text{", "}"),
    ("|", "|"),
    ("\\left(", "\\right)"), ("\\ln(", ")"), ("2^{", "}"), ("x_{", "}"), ("-", ""), ("\\boxed{", "}"), ("$", "$"),
    ("**", "**"),
)  # fmt: skip
_REPEATED = (
    "5 ", "5,", "5+", "5*", "5^", "5!", "\\pm 5 ", "\\frac", "\\text{a}", "a ", "ab ", "a=", "(1,2),", "\\{1\\},",
    "-", "\\ ",
    "\\left(", "1,000,", "\\cup ", "and ", "5 \\text{ m} ", "''", "x_{1}", "\\sin ", "|x|", ".5", "0.", "\\\\",
    "&", "½", "1\\approx ", "1:", "x<1 or ",
    "x<1 or x>2 and ", "(1,2) \\cup ", "AB ", "x=1,y=2;", "5 apples and ", " since", "\\pm 1,",
    "1 million ", "5/day", "x_", "2*-",
)  # fmt: skip
