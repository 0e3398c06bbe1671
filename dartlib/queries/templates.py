"""Prompt templates: how a query becomes the text a model continues.

The paper's templates are kept to the letter, as in the code that trained and sampled its models; the
ladders' templates are ours, for models too small to be asked without examples. Others come from a file of one's own
or are a model's own chat template. Text is put in by joining strings, never by formatting: a query may hold braces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from dartlib.files import find_path, first_line, text_digest
from dartlib.records import RecordError

# Worked examples of ``ladder-fewshot``. Each names the operation in words and repeats the whole expression: with
# bare equations, or with other ways of counting, the embedded teacher solves half as many. No ladder asks these.
LADDER_EXEMPLARS: tuple[tuple[str, str], ...] = (
    ("What is 6 + 7?", "We add 6 and 7. 6 + 7 = 13. The answer is 13."),
    ("What is 15 - 8?", "Taking 8 from 15 leaves 15 - 8 = 7. The answer is 7."),
    ("What is 4 * 7?", "4 times 7 is 4 * 7 = 28. The answer is 28."),
    ("What is 9 - 4 + 12?", "First 9 - 4 = 5. Then 5 + 12 = 17. The answer is 17."),
)

# Worked examples of ``steps-fewshot``, in the very form of the ladder's worked solutions; it asks none of these.
STEPS_EXEMPLARS: tuple[tuple[str, str], ...] = (
    ("What is 27 + 8?", "27 + 8 = 35. The answer is 35."),
    ("What is 14 - 6 + 3?", "14 - 6 = 8. 8 + 3 = 11. The answer is 11."),
    ("What is 11 - 15 - 2 + 9?", "11 - 15 = -4. -4 - 2 = -6. -6 + 9 = 3. The answer is 3."),
    ("What is 12 + 5 - 9 + 4 - 7?", "12 + 5 = 17. 17 - 9 = 8. 8 + 4 = 12. 12 - 7 = 5. The answer is 5."),
)


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template: ``before`` + query + ``after``; generation ends at any of ``stop``.

    ``fingerprint`` (12 hex digits) changes with any character of the prompt or the stop strings.
    """

    name: str
    before: str
    after: str
    stop: tuple[str, ...]

    def render(self, query: str) -> str:
        """The prompt for one query."""
        return self.before + query.strip() + self.after

    @property
    def fingerprint(self) -> str:
        return text_digest("\x00".join([self.before, self.after, *self.stop]), 12)


def _shots(exemplars: Sequence[tuple[str, str]]) -> str:
    return "".join(f"Question: {query}\nAnswer: {solution}\n\n" for query, solution in exemplars)


CHAT = "chat"  # the name of a model's own template
_PLACE = "{query}"
_TOLD_DATE = date(2024, 7, 26)  # what a chat template that states today's date gets: or a pool would last one day


def _read(name: str, values: Any) -> Template:
    """A template from its YAML values; ValueError says what is wrong with them."""
    if not isinstance(values, dict) or not {"prompt"} <= set(values) <= {"prompt", "stop"}:
        raise ValueError("a template has the key prompt, and may have stop")
    prompt, stop = str(values["prompt"]), values.get("stop") or []
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise ValueError("stop must be a list of texts, with quotes where they hold a colon or a number sign")
    if (count := prompt.count(_PLACE)) != 1:
        raise ValueError(f"holds {_PLACE} {count} times: write it once, where the query goes")
    before, _, after = prompt.partition(_PLACE)
    return Template(name, before, after, tuple(stop))


_KNOWN = yaml.safe_load(files(__package__).joinpath("templates.yaml").read_text(encoding="utf-8"))
_FEW_SHOT = {"ladder-fewshot": LADDER_EXEMPLARS, "steps-fewshot": STEPS_EXEMPLARS}
TEMPLATES: dict[str, Template] = {name: _read(name, values) for name, values in _KNOWN.items()}
TEMPLATES |= {
    name: replace(TEMPLATES["ladder"], name=name, before=_shots(exemplars) + TEMPLATES["ladder"].before)
    for name, exemplars in _FEW_SHOT.items()
}


def get_template(name: str, tokenizer: Callable[[], Any] | None = None) -> Template:
    """The template of that name, of a file, or (``chat``) of the model that ``tokenizer`` loads the tokenizer of.

    Raises ValueError for an unknown name, RecordError for a file or a chat template that cannot be used.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name == CHAT:
        if tokenizer is None:
            raise ValueError("the template chat is the model's own: its tokenizer is needed")
        return chat_template(tokenizer())
    try:
        return read_template(find_path(name))
    except FileNotFoundError as error:
        known = ", ".join((*TEMPLATES, CHAT))
        raise ValueError(f"unknown prompt template {name!r}: choose one of {known}, or a file ({error})") from None


def read_template(path: Path) -> Template:
    """A template of one's own: a text file with {query} in it, or YAML with ``prompt`` and ``stop`` (a list of texts).

    Of a text file the last line's end is not part of the prompt, and there are no stop strings. RecordError names
    the file and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else {"prompt": text.removesuffix("\n")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecordError(f"{path}: no prompt template can be read ({first_line(error)})") from None
    try:
        return _read(path.name, values)
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from None


def chat_template(tokenizer: Any) -> Template:
    """A model's own template for one question, up to where its reply begins; a turn's end marks are the stop strings.

    A leading BOS is left out where the tokenizer adds one by itself. Raises RecordError when the tokenizer has no chat
    template, or one that does more to a question than to put text around it.
    """
    asked, other, answered = "QUERY-7f3a", "What is {1}?\n<b>", "REPLY-91c4"
    try:
        prompt = _rendered(tokenizer, asked)
        before, found, after = prompt.partition(asked)
        whole = found and _rendered(tokenizer, other) == before + other + after
        end = _rendered(tokenizer, asked, answered).rpartition(answered)[2]
    except Exception as error:  # the template's own code: anything may come of it
        why = f"the model's own chat template cannot be used ({first_line(error)})"
        raise RecordError(f"{why}: name another template") from None
    if not whole:
        raise RecordError("the model's chat template changes the text of a question: name another template")
    bos, ids = tokenizer.bos_token, tokenizer("a").input_ids
    if bos and ids[:1] == [tokenizer.bos_token_id]:
        before = before.removeprefix(bos)
    stop = dict.fromkeys([*end.split(), *filter(None, [tokenizer.eos_token])])
    return Template(CHAT, before, after, tuple(stop))


def _rendered(tokenizer: Any, question: str, *reply: str) -> str:
    messages = [{"role": "user", "content": question}, *({"role": "assistant", "content": text} for text in reply)]
    dates = {"date_string": _TOLD_DATE.strftime("%d %b %Y"), "strftime_now": _TOLD_DATE.strftime}
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not reply, **dates)
    return text
