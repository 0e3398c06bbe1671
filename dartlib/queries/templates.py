"""Prompt templates: how a query becomes the text a model continues.

The paper's templates are kept to the letter, as in the code that trained and sampled its models; the ladders'
templates are ours, for models too small to be asked without examples. Text is put in by joining strings, never by
formatting: a query may hold braces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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
        text = "\x00".join([self.before, self.after, *self.stop])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shots(exemplars: Sequence[tuple[str, str]]) -> str:
    return "".join(f"Question: {query}\nAnswer: {solution}\n\n" for query, solution in exemplars)


# Sources: hkust-nlp/dart-math at 219b324, dart_math/utils.py. The paper prints "###Instruction:" without the
# space; the code has it, and so have the trained models seen it.
TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template(
            name="alpaca",
            before="Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.\n\n### Instruction:\n",
            after="\n\n### Response:\n",
            stop=("### Instruction:", "### Response:"),
        ),
        Template(
            name="deepseekmath",
            before="User: ",
            after="\nPlease reason step by step, and put your final answer within \\boxed{}.\n\nAssistant:",
            stop=("User:", "Assistant:"),
        ),
        Template(name="qa", before="User:\n", after="\n\nAssistant:\n", stop=("User:", "Assistant:")),
        *(
            Template(name=name, before=_shots(exemplars) + "Question: ", after="\nAnswer:", stop=("\n\n",))
            for name, exemplars in (("ladder-fewshot", LADDER_EXEMPLARS), ("steps-fewshot", STEPS_EXEMPLARS))
        ),
        Template(name="ladder", before="Question: ", after="\nAnswer:", stop=("\n\n",)),
    )
}


def get_template(name: str) -> Template:
    """The template of that name; ValueError lists the known ones."""
    if name not in TEMPLATES:
        raise ValueError(f"unknown prompt template {name!r}: choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
