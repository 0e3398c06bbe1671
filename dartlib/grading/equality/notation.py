"""One spelling for what looks the same on paper: answers become tokens, whatever mix of LaTeX and plain text they are.

``normalise`` rewrites spelling only (spacing commands, fonts, ``\\dfrac``, unicode signs, names of functions);
``tokenise`` cuts the result; ``skeleton`` joins the tokens again, with grouping braces as parentheses, so that two
texts that differ in notation alone become one string even where no formula can be read from them.
"""

import re
import unicodedata
from functools import lru_cache

from dartlib.grading.extraction import clean_answer

MAX_LENGTH = 4000  # characters of an answer that are looked at (the longest real reference has 993)
CACHED = 1 << 14  # answers repeat: models agree with each other, and references with themselves

FUNCTIONS = frozenset(
    "cis sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp sqrt det gcd lcm min max arg".split()
)
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar".split()
)
_SIGNS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "⁄": "/", "∕": "/",
    "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "±": "\\pm ",
    "∓": "\\mp ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "°": "^\\circ ", "√": "\\sqrt ", "∅": "\\emptyset ",
    "′": "'", "’": "'", "″": "''", "“": '"', "”": '"', "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ",
    "λ": "\\lambda ", "φ": "\\phi ", "ω": "\\omega ", "μ": "\\mu ", "σ": "\\sigma ", "ℝ": "\\mathbb{R}",
    "∛": "\\sqrt[3] ", "∜": "\\sqrt[4] ", "。": ".", "、": ",", "∖": "\\setminus ",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ",
    "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "€": "⟦€⟧ ", "£": "⟦£⟧ ", "…": "\\ldots ",
}  # fmt: skip
_SIGNS |= {mark: " " + unicodedata.normalize("NFKC", mark).replace("⁄", "/") for mark in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_SIGNS |= {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
_TRANSLATION = str.maketrans({**_SIGNS, **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", "")})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RENAMED = {
    "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "dbinom": "\\binom", "tbinom": "\\binom",
    "leq": "\\le", "leqslant": "\\le", "geq": "\\ge", "geqslant": "\\ge", "neq": "\\ne", "lt": "<", "gt": ">",
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "simeq": "\\approx", "thickapprox": "\\approx",
    "lvert": "|", "rvert": "|", "vert": "|", "lVert": "\\|", "rVert": "\\|", "Vert": "\\|", "mid": "\\mid",
    "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "colon": ":",
    "dots": "\\ldots", "cdots": "\\ldots", "degree": "^\\circ", "degrees": "^\\circ", "varnothing": "\\emptyset",
    "dollar": "", "ldots": "\\ldots", "prime": "'", "bullet": "*", "land": "\\text{and}", "lor": "\\text{or}",
    "to": "\\to", "rightarrow": "\\to", "longrightarrow": "\\to", "tg": "\\tan", "arccot": "\\arccot",
    "smallsetminus": "\\setminus", "backslash": "\\setminus",
    "operatorname": "\\operatorname", "thetasym": "\\theta", "infin": "\\infty",
}  # fmt: skip
_DROPPED = frozenset(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm middle displaystyle textstyle "
    "scriptstyle limits nolimits quad qquad hspace thinspace medspace thickspace enspace nobreakspace "
    "mathstrut strut boldsymbol hfill newline space".split()
)
_NAMES = {"pi": "\\pi", "infinity": "\\infty", "inf": "\\infty", "oo": "\\infty", "union": "\\cup", "percent": "%",
          "percentage": "%",
          "degrees": "^\\circ", "degree": "^\\circ", "deg": "^\\circ", "asin": "\\arcsin", "acos": "\\arccos",
          "atan": "\\arctan", "cbrt": "\\cbrt"}  # fmt: skip
_PLAIN_FONT = re.compile(r"\\(?:mathbf|mathit|mathsf|mathcal|bm|boldsymbol|emph|boxed|fbox)\*?\s*\{([^{}]*)\}")
_HALF_DAY = re.compile(r"(?<![A-Za-z])([AaPp])\.\s?([Mm])\b\.?")  # a.m. and p.m.
_REPEATING = re.compile(r"(?<![\d,])(\d{0,20})\.(\d{0,20})\s*\\(?:overline|bar|dot)\s*\{(\d{1,20})\}", re.ASCII)
_SCALE = re.compile(r"(?<=\d)\s*(⟦?)\s*(thousand|million|billion|trillion)\b")
_MINUTES = re.compile(r"(?<=\d)\s*\\?mins?\b(?!\s*[({_\\])")
_ABOUT = re.compile(r"^(?:about|approximately|roughly) (?=[-\\\d.(⟦])", re.IGNORECASE)
_IN_TOTAL = re.compile(r"(?<=[\w}⟧]) ⟦?in (?:total|all)⟧?$")
_SET_BUILDER = re.compile(r"\\\{ ?([a-z]) ?(?:\\in ?\\mathbb ?\{? ?R ?\}? ?)?(?:\\mid|\||:)(.*)\\\}")
# A dollar sign before or after a number is money; a pair of them around it is mathematics.
_MONEY = re.compile(r"(-\s*)?(?:\\\$|(?<![\w$\\])\$)\s*(-?)(?=[\d.])")
_MONEY_AFTER = re.compile(r"(?<=\d)\s*\\?\$(?=$|[^\w$])")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:\\,\d{3})+(?!\d)|^-?\d{1,3}(?: \d{3})+$")  # 12\,345 and, alone, 12 345
_MODULUS = re.compile(
    r"(?:,\s*)?(?:\\pmod|\(?\s*(?:\\b?mod|\\text\{\s*mod\s*\}|\bmod(?:ulo)?\b))\s*\{?\s*(\d+)\s*[)}]?\s*$"
)
_ORDINAL = re.compile(r"(?<=\d)\s*\^?\s*\{?\s*\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?")
_LEFT_BRACE = re.compile(
    r"(?:\\left\s*)?\\\{\s*\\begin\{(?:array|aligned|matrix)\}(?:\{[^}]*\})?(.*?)\\end\{\w+\}(?:\s*\\right\b(?:\s*\.)?)?",
    re.DOTALL,
)
_MINUTES_OF_ARC = re.compile(r"(\d+) *⟦degree⟧ *(\d+) *'(?: *(\d+) *'')?")
_BRACKETS = re.compile(
    r"([\[\]])(\s*[^\[\]()\s,;][^\[\]()]*[,;]\s*[^\[\]()\s,;][^\[\]()]*)(?<!\\sqrt )(?<!\\sqrt)([\[\]])"
)
_CHOOSE = re.compile(r"\{?\s*([^{}\\]+)\\choose\b([^{}\\]+)\}")
_ACCENT = r"\\(?:hat|vec|widehat|mathbf|bm|boldsymbol)\s*"
_UNIT_VECTOR = re.compile(
    rf"{_ACCENT}\{{\s*{_ACCENT}\{{?\s*\\?([ijk])(?:math)?\s*\}}?\s*\}}|{_ACCENT}\{{?\s*\\?([ijk])(?:math)?(?![a-z])\s*\}}?"
)
_BASE_SUFFIX = re.compile(r"(-?)\(?(\d+)\)?(?:_\{?\(?(?:base)?(\w+)\)?\}?|\(?(?:in)?base(\w+)\)?)")
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
          "twelve": 12, "sixteen": 16}  # fmt: skip
_ZEROS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_COUNTS = {
    word: str(count)
    for count, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_WORD = re.compile(r"(?<![\\A-Za-z⟦])([A-Za-z]{2,})(?![A-Za-z])")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|textnormal|mathrm|mbox|hbox|operatorname)\*?\s*\{((?:[^{}$]|\^\{-?\d+\})*)\}"
)
_LONE_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?: [A-Za-z])+(?![A-Za-z])")  # "x y" and "xy" look alike

TOKEN = re.compile(
    r"⟦[^⟦⟧]*⟧"  # words set in \text
    r"|(?:\d+\.\d+|\d+\.(?![\d.])|\.\d+|\d+)(?:[eE][+-]?\d{1,4}(?![\d.A-Za-z]))?"
    r"|\\begin\{[a-z]+\*?\}(?:\{[lcr|@ .]*\})?|\\end\{[a-z]+\*?\}"
    r"|\\[A-Za-z]+|\\.|[A-Za-z]+|\*\*|<=|>=|!=|[^\sA-Za-z\d]",
    re.ASCII | re.DOTALL,
)


@lru_cache(maxsize=CACHED)
def normalise(answer: str) -> str:
    """The answer in one spelling; words that were set in a text font stand between ⟦ and ⟧."""
    text = answer.replace("⟦", "").replace("⟧", "").replace("\x00", "�")
    if "\\begin" not in text:
        text = re.sub(r"\\{2,}(?=[A-Za-z{}])", r"\\", text)  # backslashes doubled on the way
    text = _ORDINAL.sub("", _LEFT_BRACE.sub(r"\\begin{cases}\1\\end{cases}", clean_answer(text)))
    text = _REPEATING.sub(_fraction, _HALF_DAY.sub(r"\1\2", text))
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda m: f"^{{{m.group().translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub(r"[₀-₉]+", lambda m: f"_{{{m.group().translate(_SUBSCRIPTS)}}}", text).translate(_TRANSLATION)
    text = text.replace("\\\\%", "%").replace("\\%", "%")
    if "$" in text:
        if "\\$" in text or text.count("$") % 2:
            text = _MONEY_AFTER.sub(" ⟦$⟧ ", _MONEY.sub(r"⟦$⟧ \1\2", text))
        text = text.replace("⟦$⟧", "⟦¤⟧").replace("\\$", " ").replace("$", " ").replace("⟦¤⟧", "⟦$⟧")
    text = re.sub(r"(?<=\d)(?:\s*\{\s*,\s*\}|,\s?\\!)\s?(?=\d)", ",", text)
    text = _GROUPED.sub(lambda match: re.sub(r"\\,| ", "", match.group()), text)
    text = re.sub(
        r"(?<=1)st\b|(?<=2)nd\b|(?<=3)rd\b|(?<=\d)th\b(?! root| power)", "", _MODULUS.sub(r" \\text{residue\1}", text)
    )
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text) if "\\choose" in text else text
    text = _UNIT_VECTOR.sub(lambda match: f" {match.group(1) or match.group(2)} ", text)
    text = re.sub(r"(?<!\\)\\[ ,;:>]|(?<!\\)\\!|~", lambda m: "" if m.group() == "\\!" else " ", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]|\\(?:left|right)\s*\.|\\q?quad(?=[a-z])", " ", text)
    for _ in range(3):  # a font inside a font
        text = _TEXT.sub(_as_words, _PLAIN_FONT.sub(r" \1 ", text))
    text = re.sub(r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-z])|\\(?:degree|textdegree)(?![a-z])", " ⟦degree⟧ ", text)
    text = re.sub(r"\^\s*\{?((?:\s*\\prime\b)+)\s*\}?", lambda m: "'" * m.group(1).count("prime"), text)
    text = _MINUTES.sub(" minutes", _COMMAND.sub(_rename, text))
    text = _WORD.sub(_name, text)
    text = text.replace("**", "^").replace("<=", "\\le ").replace(">=", "\\ge ").replace("!=", "\\ne ")
    text = re.sub(r"\+\s?/\s?-|\+-(?=\s?[\d\\A-Za-z(])", "\\\\pm ", text)
    text = re.sub(r"\\(frac|binom)\s*(\d)\s*(\d)", r"\\\1{\2}{\3}", text)
    text = _BRACKETS.sub(_turned, _MINUTES_OF_ARC.sub(_degrees, text))
    text = re.sub(r"(\\mathbb ?\{? ?R ?\}?) ?(?:-|\\setminus) ?(?=\\\{)", r"\1 \\setminus ", text)
    text = _SCALE.sub(lambda match: f"*10^{{{_ZEROS[match.group(2)]}}} {match.group(1)}", text).replace("⟦⟧", "")
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"[\s.,;:]+$", "", re.sub(r"^[\s,;:]+", "", text)) if not re.fullmatch(r"\d+\.", text) else text
    builder = _SET_BUILDER.fullmatch(text)
    if builder and builder.group(1) in builder.group(2):  # {x | x > 3} is answered by x > 3
        text = builder.group(2).strip()
    if based := _BASE_SUFFIX.fullmatch(re.sub("[ ⟦⟧]", "", text)):
        sign, digits, *base = based.groups()
        name = "".join(filter(None, base))
        text = f"{sign}{digits}_{{{_BASES.get(name, name)}}}"
    text = _IN_TOTAL.sub("", _ABOUT.sub("\\\\approx ", text))
    return _COUNTS.get(text.strip("⟦⟧").casefold(), text)


def _turned(match: re.Match[str]) -> str:
    """``]0,1[`` as ``(0,1)``."""
    left, inside, right = match.groups()
    return f"{'(' if left == ']' else '['}{inside}{')' if right == '[' else ']'}"


def _degrees(match: re.Match[str]) -> str:
    degrees, minutes, seconds = (int(part or 0) for part in match.groups())
    return f"({degrees * 3600 + minutes * 60 + seconds}/3600) ⟦degree⟧"


def _fraction(match: re.Match[str]) -> str:
    """``0.1\\overline{6}`` as the fraction that it is."""
    whole, fixed, period = match.groups()
    value = int(whole + fixed + period) - int(whole + fixed or 0)
    return f"\\frac{{{value}}}{{{10 ** len(fixed) * (10 ** len(period) - 1)}}}"


def _as_words(match: re.Match[str]) -> str:
    words = match.group(1).replace("\\", " ").strip()
    if not words:
        return " "
    if re.fullmatch(r"[+-]?[\d.,/ ]+|[+\-=:;]", words) or words in FUNCTIONS:
        return f" {words} " if words not in FUNCTIONS else f"\\{words} "
    return f" ⟦{words}⟧ "


def _rename(match: re.Match[str]) -> str:
    name = match.group(1)
    if name in _DROPPED:
        return " "
    return match.group() if name in ("begin", "end") else _RENAMED.get(name, match.group()) + " "


def _name(match: re.Match[str]) -> str:
    word = match.group(1)
    if word in FUNCTIONS or word in GREEK:
        return f"\\{word} "
    renamed = _NAMES.get(word) or _NAMES.get(word.lower() if len(word) > 3 else word)
    if renamed == "^\\circ":
        return " ⟦degree⟧ "
    return f"{renamed} " if renamed else word


@lru_cache(maxsize=CACHED)
def tokenise(text: str) -> tuple[str, ...]:
    """The tokens of a normalised answer; thousands commas are gone, quoted set braces are ``\\{`` and ``\\}``."""
    text = re.sub(r"(?<![\d.,(\[{])\d{1,3}(?:,\d{3})+(?![\d,])", lambda m: m.group().replace(",", ""), text)
    tokens = TOKEN.findall(text)
    opened: list[int] = []
    for place, token in enumerate(tokens):
        if token == "{":
            opened.append(place)
        elif token == "," and opened and opened[-1] >= 0:
            start = opened[-1]
            before = tokens[start - 1] if start else ""
            if before not in ("^", "_", "]", "}") and not re.fullmatch(r"\\[A-Za-z]+", before):
                tokens[start], opened[-1] = "\\{", -1
        elif token == "}" and opened and opened.pop() == -1:
            tokens[place] = "\\}"
    return tuple(tokens)


@lru_cache(maxsize=CACHED)
def skeleton(text: str) -> str:
    """The tokens of a normalised answer as one string in lower case of its words, blind to grouping and font."""
    tokens = _without_commands(list(tokenise(text)))
    kept: list[str] = []
    digits = "0123456789"
    for token, after in zip(tokens, [*tokens, ""][1:], strict=True):
        if token.startswith("⟦"):
            kept += TOKEN.findall(token.strip("⟦⟧"))
        elif token != "*" or (kept and kept[-1][-1] in digits and after[:1] in ("(", *digits)):
            kept.append(token)  # 2*1/2 is not 2 1/2
    joined = " ".join(_without_single_groups(kept)).strip(" .,;:")
    return _LONE_LETTERS.sub(lambda match: match.group().replace(" ", ""), joined)


def _without_commands(tokens: list[str]) -> list[str]:
    """``\\frac{a}{b}`` as ``(a)/(b)``, ``\\sqrt[n]{a}`` as ``(a)^(1/n)``, grouping braces as parentheses."""
    result: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token == "\\frac" and (first := _group(tokens, place + 1)) and (second := _group(tokens, first)):
            inside = [_without_commands(tokens[place + 1 : first]), _without_commands(tokens[first:second])]
            result += [*_parenthesised(inside[0]), "/", *_parenthesised(inside[1])]
            place = second
            continue
        result.append({"{": "(", "}": ")"}.get(token, token))
        place += 1
    return result


def _parenthesised(tokens: list[str]) -> list[str]:
    if tokens[:1] == ["("]:
        tokens = tokens[1:-1]
    return tokens if len(tokens) == 1 else ["(", *tokens, ")"]


def _group(tokens: list[str], start: int) -> int | None:
    """Where the brace group (or the single token) at ``start`` ends, exclusive; None past the end."""
    if start >= len(tokens):
        return None
    if tokens[start] != "{":
        return start + 1
    depth = 0
    for place in range(start, len(tokens)):
        depth += (tokens[place] == "{") - (tokens[place] == "}")
        if not depth:
            return place + 1
    return None


def _without_single_groups(tokens: list[str]) -> list[str]:
    """Parentheses around one token are dropped unless a name stands before them."""
    result: list[str] = []
    for token, after in zip(tokens, [*tokens, ""][1:], strict=True):
        if token == ")" and len(result) > 1 and result[-2] == "(":
            before = result[-3] if len(result) > 2 else ""
            if before in ("", "^", "_", "/", "+", "-", "=", "(", ",") or after == "/" and not before[-1:].isdigit():
                result[-2:] = [result[-1]]
                continue
        result.append(token)
    return result
