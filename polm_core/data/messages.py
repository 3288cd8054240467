"""Every dialect of messages to `{"role", "content"}`, as OpenAI, ShareGPT, OASST and transcripts write them."""

import re
from collections.abc import Mapping as MappingABC
from typing import Any

import orjson

from polm_core.data.problems import RowProblem
from polm_core.data.values import decoded, kind_name, scalar_text

Message = dict[str, Any]
Turns = str | list[Message]

CALL = "tool-call"
"""A tag for an assistant's turn whose text is the call of a tool, as ShareGPT's `function_call`."""

ROLE_TAGS: dict[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "question": "user",
    "instruction": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "answer": "assistant",
    "function_call": CALL,
    "tool_call": CALL,
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "message", "utterance", "parts")

# A tuple, for what stands in place of a role may not be hashable.
_ROLES = ("user", "assistant", "system", "tool")

TEXT_TYPES = ("text", "input_text", "output_text")
"""The types of a content's parts that are text."""

PAIR_KEYS = (
    ("input", "output"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("query", "response"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("human", "gpt"),
    ("human", "bot"),
)
"""Names of the two texts of a turn, in conversations that are lists of questions with their answers."""

_TURN = re.compile(r"(?:^\s*|\n\n ?)(Human|Assistant|System):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant", "System": "system"}


def is_message(value: Any) -> bool:
    """Whether `value` is one message in some dialect."""
    if not isinstance(value, dict):
        return False
    has_content = any(key in value for key in (*CONTENT_KEYS, "tool_calls", "function_call"))
    return has_content and any(isinstance(value.get(key), str) for key in ROLE_KEYS)


def is_message_list(value: Any) -> bool:
    """Whether `value` is a list of messages, or the columns of one (a struct of lists, as Parquet may store it)."""
    if isinstance(value, dict):
        value = _rows_of_columns(value)
    return isinstance(value, list) and bool(value) and is_message(value[0])


def is_pair_list(value: Any) -> bool:
    """Whether `value` is a list of questions with their answers: `[{"input": "...", "output": "..."}, ...]`."""
    return isinstance(value, list) and bool(value) and all(_pair(item) is not None for item in value)


def _pair(item: Any) -> tuple[str, str] | None:
    if not isinstance(item, dict) or is_message(item):
        return None
    pairs = ((item.get(asked), item.get(said)) for asked, said in PAIR_KEYS)
    return next(((a, s) for a, s in pairs if isinstance(a, str) and isinstance(s, str)), None)


def is_transcript(value: Any) -> bool:
    """Whether `value` is text such as `Human: ... \\n\\nAssistant: ...`."""
    if not isinstance(value, str) or "Assistant:" not in value:
        return False
    return value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def to_turns(value: Any, column: str, tags: MappingABC[str, str]) -> Turns:
    """`value` as a list of messages if it is one in any dialect, else as text. Raises `RowProblem`."""
    if is_transcript(value):
        return parse_transcript(value)
    structure = decoded(value)
    # Text such as "[1, 2]" is a list to a decoder, but not to a reader.
    if is_message(structure) or is_message_list(structure) or isinstance(value, list | dict):
        return to_messages(structure, column, tags)
    return scalar_text(value, column)


def to_messages(value: Any, column: str, tags: MappingABC[str, str]) -> list[Message]:
    """Messages out of a list of them, one of them, a JSON string of either, a transcript, pairs or alternating strings.

    `tags` holds additional role tags. Raises `RowProblem` naming the message that cannot be read.
    """
    if is_transcript(value):
        return parse_transcript(value)
    value = decoded(value)
    if isinstance(value, dict):
        value = [value] if is_message(value) else _rows_of_columns(value)
    if not isinstance(value, list):
        raise RowProblem(
            "messages.not-a-list",
            f"'{column}' holds {kind_name(value)} where messages are needed.",
            'Write a list such as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].',
            column=column,
        )
    if value and not tags and all(map(_is_canonical, value)):
        return value
    if value and all(isinstance(item, str) for item in value):
        speakers = ("user", "assistant")
        value = [{"role": speakers[place % 2], "content": text} for place, text in enumerate(value)]
    elif is_pair_list(value):
        pairs = [pair for item in value if (pair := _pair(item))]
        value = [
            {"role": role, "content": text}
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    found = [_message(item, place, column, tags) for place, item in enumerate(value, 1)]
    messages = [message for message in found if message["role"] != "system" or message["content"].strip()]
    if not messages:
        raise RowProblem("messages.empty", f"'{column}' holds no messages.", "Leave such rows out.", column=column)
    return messages


def _is_canonical(item: Any) -> bool:
    """Whether reading the message would give just itself. Most messages of most files are such."""
    return (
        isinstance(item, dict)
        and [*item] == ["role", "content"]
        and item["role"] in _ROLES
        and isinstance(item["content"], str)
        and bool(item["content"])
        and not item["content"].isspace()
    )


def _rows_of_columns(value: dict[str, Any]) -> Any:
    """`{"role": [...], "content": [...]}` as a list of messages; anything else unchanged."""
    columns = list(value.values())
    if columns and all(isinstance(column, list) for column in columns) and len({len(c) for c in columns}) == 1:
        return [dict(zip(value, items, strict=True)) for items in zip(*columns, strict=True)]
    return value


def _message(item: Any, place: int, column: str, tags: MappingABC[str, str]) -> Message:
    if not isinstance(item, dict):
        raise RowProblem(
            "messages.not-an-object",
            f"Message {place} of '{column}' is {kind_name(item)}.",
            'Write each message as {"role": "...", "content": "..."}.',
            column=column,
        )
    role = _role(item, place, column, tags)
    content = _content(item, place, column)
    message: Message = {"role": role, "content": content}
    calls = item.get("tool_calls") or item.get("function_call")
    if role == CALL:
        message = {"role": "assistant", "content": ""}
        calls = content
    if calls:
        message["tool_calls"] = _tool_calls(calls, place, column)
    elif not content.strip() and role not in ("system", "tool"):
        raise RowProblem(
            "messages.empty-content",
            f"Message {place} of '{column}' ({role}) is empty.",
            "Leave it out.",
            column=column,
        )
    if isinstance(item.get("name"), str):
        message["name"] = item["name"]
    if message["role"] == "assistant" and _weight(item.get("weight"), place, column) == 0:
        message["weight"] = 0
    return message


def _weight(weight: Any, place: int, column: str) -> int:
    if weight is None:
        return 1
    if weight not in (0, 1):
        raise RowProblem(
            "messages.weight",
            f"Message {place} of '{column}' has the weight {str(weight)[:40]}.",
            "Use 0 for an answer that is not to be learned and 1, or none, for the others.",
            column=column,
        )
    return int(weight)


def is_learned(message: Message) -> bool:
    """Whether the assistant said it and it is to be learned: a weight of 0 leaves it as context."""
    return message["role"] == "assistant" and message.get("weight") != 0


def _role(item: dict[str, Any], place: int, column: str, tags: MappingABC[str, str]) -> str:
    tag = next((item[key] for key in ROLE_KEYS if key in item), None)
    role = None
    if isinstance(tag, str):
        role = tags.get(tag) or ROLE_TAGS.get(tag.strip().lower())
    if role is None:
        said = f"the role '{tag}', which is not known" if tag is not None else "no role"
        raise RowProblem(
            "messages.role",
            f"Message {place} of '{column}' has {said}.",
            "Use system, user, assistant or tool, or say in the mapping's role tags what it means.",
            column=column,
        )
    return role


def _content(item: dict[str, Any], place: int, column: str) -> str:
    content = next((item[key] for key in CONTENT_KEYS if key in item), None)
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(_part(part, place, column) for part in content)
    raise _odd_content(kind_name(content), place, column)


def _part(part: Any, place: int, column: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type", "text") in TEXT_TYPES:
        return str(part["text"])
    what = f"a part of type '{part.get('type')}'" if isinstance(part, dict) else kind_name(part)
    raise _odd_content(what, place, column)


def _odd_content(what: str, place: int, column: str) -> RowProblem:
    return RowProblem(
        "messages.not-text",
        f"Message {place} of '{column}' holds {what} where text is needed.",
        'Only text can be used: a string, or parts such as {"type": "text", "text": "..."}.',
        column=column,
    )


def is_call_list(value: Any) -> bool:
    """Whether `value` is a list of tool calls that no message holds."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("arguments"), dict)
            for item in value
        )
    )


def calling_message(value: Any, column: str) -> Message:
    """The assistant's message that makes these tool calls. Raises `RowProblem`."""
    calls = _tool_calls(value, 1, column)
    if not calls:
        raise RowProblem("calls.empty", f"'{column}' holds no tool call.", "Leave such rows out.", column=column)
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _tool_calls(value: Any, place: int, column: str) -> list[dict[str, Any]]:
    calls = decoded(value)
    if isinstance(calls, dict):
        calls = [calls]
    try:
        return [_tool_call(call) for call in calls]
    except (TypeError, KeyError, AttributeError, orjson.JSONDecodeError) as error:
        raise RowProblem(
            "messages.tool-call",
            f"Message {place} of '{column}' holds a tool call that cannot be read.",
            'Write it as {"name": "...", "arguments": {...}}.',
            column=column,
        ) from error


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or call
    arguments = function.get("arguments", function.get("parameters")) or {}
    if isinstance(arguments, str):
        arguments = orjson.loads(arguments)
    return {"type": "function", "function": {"name": str(function["name"]), "arguments": arguments}}


def parse_transcript(text: str) -> list[Message]:
    """`Human: ...` and `Assistant: ...` turns, parted by blank lines, as messages; an empty last turn is left off."""
    marks = list(_TURN.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    messages = [
        {"role": _SPEAKERS[mark.group(1)], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
    if messages and not messages[-1]["content"]:
        messages.pop()
    return [message for message in messages if message["content"]]


def system_text(value: Any, column: str) -> str:
    """A system prompt: text, a message, or a list of parts as some services write it; `""` for null."""
    structure = decoded(value)
    if is_message(structure) or (isinstance(structure, dict) and "parts" in structure):
        return _content(structure, 1, column)
    if isinstance(structure, list) and structure and isinstance(structure[0], dict):
        return _content({"parts": structure}, 1, column)
    return scalar_text(value, column)


def tool_definitions(value: Any, column: str) -> list[dict[str, Any]]:
    """Tools as JSON-schema definitions, out of a list or its JSON; `[]` for none. Raises `RowProblem`."""
    tools = decoded(value)
    if tools is None or tools == "":
        return []
    if isinstance(tools, dict):
        tools = [tools]
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RowProblem(
            "tools.not-a-list",
            f"'{column}' holds {kind_name(tools)} where tool definitions are needed.",
            'Write a list of {"name", "description", "parameters"}, or its JSON.',
            column=column,
        )
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def with_system(messages: list[Message], system: str) -> list[Message]:
    """`messages` after a system message with `system`, unless that is blank or there is one already."""
    if not system.strip() or (messages[:1] and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]


def common_prefix(first: list[Message], second: list[Message]) -> int:
    """How many messages two conversations share at their beginning, leaving each at least its last one."""
    shared = 0
    for one, other in zip(first[:-1], second[:-1], strict=False):
        if one != other:
            break
        shared += 1
    return shared


def up_to_last_answer(messages: list[Message], column: str) -> list[Message]:
    """`messages` without what follows the assistant's last turn to learn from, which teaches nothing.

    Raises `RowProblem` when there is no such turn, or no turn of the user before it.
    """
    end = len(messages)
    while end and not is_learned(messages[end - 1]):
        end -= 1
    if not end and any(message["role"] == "assistant" for message in messages):
        raise RowProblem(
            "messages.all-weights-0",
            f"Every message of the assistant in '{column}' has the weight 0.",
            "Give at least one answer the weight 1, or leave the conversation out.",
            column=column,
        )
    if not end:
        raise RowProblem(
            "messages.no-assistant",
            f"'{column}' has no message of the assistant.",
            "Every conversation needs an answer to learn from.",
            column=column,
        )
    if not any(message["role"] == "user" for message in messages[:end]):
        raise RowProblem(
            "messages.no-user",
            f"'{column}' has no message of the user before the answer.",
            "Every conversation needs a question.",
            column=column,
        )
    return messages[:end]
