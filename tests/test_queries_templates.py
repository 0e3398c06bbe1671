"""Prompts to the letter: one changed character changes what the paper's models would answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dartlib.engines import ModelError, load_tokenizer
from dartlib.queries import TEMPLATES, get_template, worked_solution
from dartlib.queries.templates import STEPS_EXEMPLARS
from dartlib.records import RecordError


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        (
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately completes the "
            "request.\n\n### Instruction:\nWhat is {1}?\n\n### Response:\n",
        ),
        (
            "deepseekmath",
            "User: What is {1}?\nPlease reason step by step, and put your final answer within \\boxed{}.\n\nAssistant:",
        ),
        ("qa", "User:\nWhat is {1}?\n\nAssistant:\n"),
        ("ladder", "Question: What is {1}?\nAnswer:"),
    ],
)
def test_prompt_is_exact(name: str, prompt: str) -> None:
    assert get_template(name).render(" What is {1}?\n") == prompt


def test_few_shot_prompt_is_four_examples_and_the_students_prompt() -> None:
    prompt = get_template("ladder-fewshot").render("What is 1 + 1?")
    assert prompt.startswith(
        "Question: What is 6 + 7?\nAnswer: We add 6 and 7. 6 + 7 = 13. The answer is 13.\n\nQuestion: "
    )
    assert prompt.endswith("The answer is 17.\n\n" + get_template("ladder").render("What is 1 + 1?"))
    assert prompt.count("The answer is ") == 4
    assert prompt.count("\n\n") == 4


def test_the_prompt_with_steps_shows_solutions_as_the_ladder_constructs_them() -> None:
    prompt = get_template("steps-fewshot").render("What is 1 + 1?")
    shots = "".join(f"Question: {asked}\nAnswer: {worked_solution(asked)}\n\n" for asked, _ in STEPS_EXEMPLARS)
    assert prompt == shots + get_template("ladder").render("What is 1 + 1?")


def test_stop_strings() -> None:
    assert get_template("deepseekmath").stop == ("User:", "Assistant:")
    assert get_template("alpaca").stop == ("### Instruction:", "### Response:")
    assert get_template("ladder").stop == get_template("ladder-fewshot").stop == ("\n\n",)


def test_fingerprints_tell_templates_apart() -> None:
    assert len({template.fingerprint for template in TEMPLATES.values()}) == len(TEMPLATES) == 6


def test_unknown_template_lists_the_known_ones() -> None:
    known = "alpaca, deepseekmath, qa, ladder, ladder-fewshot, steps-fewshot, chat, or a file"
    told = f"unknown prompt template 'llama': choose one of {known} .llama: looked for .*llama: no such file"
    with pytest.raises(ValueError, match=told):
        get_template("llama")


HOSTILE = "What is {1}? {query} %s {0.__class__} \\frac{a}{b}"


@pytest.mark.parametrize(
    ("name", "text", "prompt", "stop"),
    [
        ("mine.txt", "Q: {query}\nA: {0}\n", "Q: " + HOSTILE + "\nA: {0}", ()),
        ("mine.yaml", 'prompt: "Q: {query}\\n\\n"\nstop: ["Q:", "#"]\n', "Q: " + HOSTILE + "\n\n", ("Q:", "#")),
        ("mine.yml", "prompt: |-\n  Q: {query}\n  A:\n", "Q: " + HOSTILE + "\nA:", ()),
    ],
)
def test_a_file_of_ones_own(tmp_path: Path, name: str, text: str, prompt: str, stop: tuple[str, ...]) -> None:
    path = tmp_path / name
    path.write_text(text)
    template = get_template(str(path))
    assert (template.name, template.render(f" {HOSTILE}\n"), template.stop) == (name, prompt, stop)
    (tmp_path / "copy.yaml").write_text(text if name != "mine.txt" else 'prompt: "Q: {query}\\nA: {0}"')
    assert get_template(str(tmp_path / "copy.yaml")).fingerprint == template.fingerprint, "its content counts, no name"
    path.write_text(text.replace("Q", "q"))
    assert get_template(str(path)).fingerprint != template.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"Q: {question}", r"a.txt: holds \{query\} 0 times: write it once"),
        ("a.txt", b"{query} {query}", r"a.txt: holds \{query\} 2 times"),
        ("a.txt", b"caf\xe9 {query}", "a.txt: no prompt template can be read"),
        ("a.yaml", b"prompt: [", "a.yaml: no prompt template can be read"),
        ("a.yaml", b"- {query}", "a.yaml: a template has the key prompt"),
        ("a.yaml", b"prompt: '{query}'\nstops: [a]", "a.yaml: a template has the key prompt, and may have stop"),
        ("a.yaml", b"prompt: '{query}'\nstop: [a, 7]", "a.yaml: stop must be a list of texts"),
        ("a.yaml", b"prompt: '{query}'\nstop: ['']", "a.yaml: stop must be a list of texts"),
        ("a.yaml", b"prompt: !!python/object/apply:os.getcwd []", "a.yaml: no prompt template can be read"),
    ],
)
def test_files_that_are_no_template_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=message):
        get_template(str(tmp_path / name))


class ChatTokenizer:
    """Adds a BOS by itself, as many do; its template is given in Jinja, rendered by transformers."""

    bos_token, bos_token_id, eos_token = "<s>", 1, "<end>"

    def __init__(self, template: str) -> None:
        self.template = template

    def __call__(self, text: str) -> Any:
        return type("Encoding", (), {"input_ids": [1, *(ord(character) for character in text)]})

    def apply_chat_template(self, messages: list[dict[str, str]], *, tokenize: bool, **options: Any) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        rendered, _ = render_jinja_template([messages], chat_template=self.template, bos_token="<s>", **options)
        return rendered[0]


LIKE_LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'user' %}{{ date_string }} "
    "{{ strftime_now('%Y') }} {% endif %}{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|stop|>{% endif %}"
)


def test_a_models_own_chat_template_asks_as_it_does_and_ends_where_a_turn_ends() -> None:
    template = get_template("chat", lambda: ChatTokenizer(LIKE_LLAMA))
    assert template.name == "chat"
    assert template.render(f"{HOSTILE}\n") == f"<|user|>\n26 Jul 2024 2024 {HOSTILE}<|end|>\n<|assistant|>\n"
    assert template.stop == ("<|end|>", "<|stop|>", "<end>")


@pytest.mark.parametrize(
    ("jinja", "message"),
    [
        ("{{ messages[0].content | upper }}", "changes the text of a question"),
        ("{{ messages[0].content | replace('{', '(') }}", "changes the text of a question"),
        ("{{ raise_exception('system message needed') }}", "cannot be used .system message needed"),
        ("{% for %}", "cannot be used "),
    ],
)
def test_chat_templates_that_do_more_are_refused(jinja: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        get_template("chat", lambda: ChatTokenizer(jinja))


@pytest.mark.model
def test_the_embedded_models_chat_template_gives_one_bos(embedded: Path) -> None:
    tokenizer = load_tokenizer("embedded")
    template = get_template("chat", lambda: tokenizer)
    messages = [{"role": "user", "content": HOSTILE}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokenizer(template.render(HOSTILE)).input_ids == ids
    assert template.stop == ("<|im_end|>",) and template == get_template("chat", lambda: load_tokenizer(str(embedded)))


def test_models_without_a_tokenizer_say_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="needs the served model's tokenizer: name its Hub id or folder as the model"):
        load_tokenizer("embedded", "http://localhost:8000/v1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for model in (str(tmp_path), "nobody/nothing"):
        with pytest.raises(ModelError, match="no tokenizer to be had .*; give a model's folder or Hub id"):
            load_tokenizer(model)


def test_training_reads_a_chat_template_and_a_file_as_sampling_does(tmp_path: Path) -> None:
    from training_toys import config, tokenizer

    from dartlib.records import SftRow, write_records
    from dartlib.training import read_examples

    words = tokenizer()
    words.chat_template = "{% for m in messages %}Question {{ m.content }} </s>{% endfor %}Answer"
    (tmp_path / "mine.txt").write_text("Question {query} </s>Answer\n")
    row = SftRow("1 + 2 ?", "3 .", "id", 0, "s", None, None, "vrt")
    write_records(tmp_path / "rows.parquet", [row], SftRow)
    prompt = words("Question 1 + 2 ? </s>Answer").input_ids
    for template in ("chat", str(tmp_path / "mine.txt")):
        examples = read_examples(tmp_path / "rows.parquet", words, config(template=template))
        example = examples[0]
        assert (example.prompt_tokens, examples.dropped, len(examples)) == (len(prompt), 0, 1)
        assert list(example.token_ids) == [*prompt, *words("3 .").input_ids, words.eos_token_id]
