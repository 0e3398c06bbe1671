"""Conversations: the question and the answer of a row that holds messages, in the shapes that public sets use.

A message is ``{role, content}`` or ``{from, value}``; its content a text, or a list of parts with texts. Messages
stand in one column, or the asking ones in one and the answering ones in another (``prompt`` and ``completion``,
``input`` and ``output``). System messages are instructions, not questions: a template gives its own.
"""

from collections.abc import Mapping
from typing import Any

_COLUMNS = (
    ("messages",), ("conversations",), ("conversation",), ("prompt", "completion"), ("prompt", "response"),
    ("input", "output"),
)  # fmt: skip
_ASKING = ("user", "human", "prompter")
_ANSWERING = ("assistant", "gpt", "model", "bot", "chatgpt")
_INSTRUCTING = ("system", "developer")

Message = tuple[str, str]  # role in lower case, text


def chat_columns(row: Mapping[str, Any]) -> dict[str, str]:
    """``chat_query`` and, where there is an answer, ``chat_response``; nothing where a row is no single exchange.

    Of a conversation with several exchanges none is picked silently: columns can name one, as in
    ``messages.-1.content``.
    """
    found = {column: messages for column, value in row.items() if (messages := _messages(value))}
    for columns in (*_COLUMNS, *([tuple(found)] if len(found) == 1 else [])):
        if columns[0] not in found:
            continue
        spoken = [turn for column in columns for turn in found.get(column, ()) if turn[0] not in _INSTRUCTING]
        if [role in _ASKING for role, _ in spoken] == [True]:
            return {"chat_query": spoken[0][1]}
        if [role in _ASKING for role, _ in spoken] == [True, False] and spoken[1][0] in _ANSWERING:
            return {"chat_query": spoken[0][1], "chat_response": spoken[1][1]}
    return {}


def _messages(value: Any) -> list[Message]:
    """The messages of a column; none unless all can be read."""
    if isinstance(value, Mapping) and value and all(isinstance(part, list) for part in value.values()):
        value = [dict(zip(value, parts, strict=False)) for parts in zip(*value.values(), strict=False)]
    if not isinstance(value, list):
        return []
    messages = [message for each in value if (message := _message(each))]
    return messages if len(messages) == len(value) else []


def _message(value: Any) -> Message | None:
    if not isinstance(value, Mapping):
        return None
    role = value.get("role") or value.get("from")
    content = value.get("content") or value.get("value")
    if isinstance(content, list):
        texts = [text for part in content if isinstance(part, Mapping) and isinstance(text := part.get("text"), str)]
        content = "".join(texts) if len(texts) == len(content) else None
    return (role.lower(), content) if isinstance(role, str) and isinstance(content, str) else None
