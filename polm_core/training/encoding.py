"""From rows to tokens, with the tokens that are trained on marked.

The text is what the tokenizer's own chat template renders; nothing is added to it. Which part of it the assistant
said is read off the template's `{% generation %}` marks where it has them, and otherwise found by rendering the
conversation up to each turn, which works for every template whose shorter renderings begin the longer ones.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from polm_core.data.messages import is_learned
from polm_core.errors import DataError, ModelError
from polm_core.formats import Format
from polm_core.training.rows import Row

LossOn = Literal["answers", "everything"]
Span = tuple[int, int]
Messages = list[dict[str, Any]]

# What ends each step of an answer whose steps are judged.
STEP_END = "\n"
_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")

# Turns in the ChatML form for models that bring no template; a turn ends with the model's own end token.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Rendered(NamedTuple):
    """A row as text, with the character spans that are trained on, and those the row itself excludes from it."""

    text: str
    spans: list[Span]
    muted: Sequence[Span] = ()


class Encoded(NamedTuple):
    """A row as tokens: `trained[i]` tells whether token `i` counts in the loss, `offsets[i]` its place in `text`."""

    input_ids: list[int]
    trained: list[bool]
    offsets: list[Span]
    text: str


def ensure_chat_template(tokenizer: Any) -> bool:
    """Give the tokenizer a chat template if it has none; whether it had to be given."""
    if tokenizer.chat_template:
        return False
    if not tokenizer.eos_token:
        raise ModelError("The model's tokenizer has neither a chat template nor an end token, so turns cannot end.")
    tokenizer.chat_template = CHAT_TEMPLATE
    return True


def encode_rows(tokenizer: Any, rows: Sequence[Row], format_: Format, loss_on: LossOn) -> Iterator[Encoded]:
    """Each row of a supervised format as tokens, uncut. Raises `DataError` naming a row the template refuses."""
    for number, row in enumerate(rows, 1):
        rendered = _render_row(tokenizer, row, format_, loss_on, number)
        tokens = tokenizer(rendered.text, add_special_tokens=_plain(row, format_), return_offsets_mapping=True)
        offsets = tokens["offset_mapping"]
        yield Encoded(tokens["input_ids"], _trained(offsets, rendered.spans), offsets, rendered.text)


def encode_pairs(tokenizer: Any, pairs: Sequence[Row]) -> Iterator[tuple[Encoded, ...]]:
    """The chosen and the rejected sequence of each pair (as `as_pairs` gives them), uncut, as DPOTrainer makes them."""
    return _encode_answers(tokenizer, pairs, ("chosen", "rejected"))


def encode_ratings(tokenizer: Any, rows: Sequence[Row]) -> Iterator[tuple[Encoded, ...]]:
    """The one sequence of each rating (as `as_ratings` gives them), uncut, as KTOTrainer makes it."""
    return _encode_answers(tokenizer, rows, ("completion",))


def encode_prompts(tokenizer: Any, prompts: Sequence[Row]) -> Iterator[tuple[Encoded, ...]]:
    """The one sequence of each prompt (as `as_prompts` gives them), uncut, as the online trainers make it.

    No token of a prompt is trained on: the answers are, which the model has yet to write.
    """
    for number, row in enumerate(prompts, 1):
        prompt = row["prompt"]
        try:
            text = prompt if isinstance(prompt, str) else render_chat(tokenizer, prompt, add_generation_prompt=True)
        # A template is the model's own code and raises what it likes.
        except Exception as error:
            raise refused(number, error) from error
        tokens = tokenizer(text, add_special_tokens=isinstance(prompt, str), return_offsets_mapping=True)
        yield (Encoded(tokens["input_ids"], [False] * len(tokens["input_ids"]), tokens["offset_mapping"], text),)


def _encode_answers(tokenizer: Any, rows: Sequence[Row], columns: Sequence[str]) -> Iterator[tuple[Encoded, ...]]:
    for number, row in enumerate(rows, 1):
        try:
            yield tuple(_encode_answer(tokenizer, row["prompt"], row[column]) for column in columns)
        # A template is the model's own code and raises what it likes.
        except Exception as error:
            raise refused(number, error) from error


def _encode_answer(tokenizer: Any, prompt: str | Messages, answer: str | Messages) -> Encoded:
    if isinstance(prompt, str):
        before, text = prompt, prompt + _ended(str(answer), tokenizer)
    else:
        before = render_chat(tokenizer, prompt, add_generation_prompt=True)
        text = render_chat(tokenizer, prompt + as_messages(answer, "assistant"))
    tokens = tokenizer(text, add_special_tokens=isinstance(prompt, str), return_offsets_mapping=True)
    offsets = tokens["offset_mapping"]
    return Encoded(tokens["input_ids"], _trained(offsets, [(len(before), len(text))]), offsets, text)


def encode_steps(tokenizer: Any, rows: Sequence[Row], *, wrap: bool) -> Iterator[tuple[Encoded, ...]]:
    """The one sequence of each row of steps, uncut: the prompt, then each step and a line's end.

    `trained` marks the token that ends each step, where it is judged. Each step is encoded by itself, so that its
    tokens are the same whatever follows. `wrap` puts the prompt into a chat turn.
    """
    for number, row in enumerate(rows, 1):
        try:
            asked = as_messages(row["prompt"], "user")
            text = render_chat(tokenizer, asked, add_generation_prompt=True) if wrap else f"{row['prompt']}\n"
        # A template is the model's own code and raises what it likes.
        except Exception as error:
            raise refused(number, error) from error
        tokens = tokenizer(text, add_special_tokens=not wrap, return_offsets_mapping=True)
        ids, offsets = list(tokens["input_ids"]), list(tokens["offset_mapping"])
        trained = [False] * len(ids)
        for step in row["completions"]:
            tokens = tokenizer(f"{step}{STEP_END}", add_special_tokens=False, return_offsets_mapping=True)
            ids += tokens["input_ids"]
            offsets += [(start + len(text), end + len(text)) for start, end in tokens["offset_mapping"]]
            trained += [False] * (len(tokens["input_ids"]) - 1) + [True]
            text += f"{step}{STEP_END}"
        yield (Encoded(ids, trained, offsets, text),)


def encode_answer_steps(tokenizer: Any, rows: Sequence[Row]) -> Iterator[tuple[Encoded, ...]]:
    """The one sequence of each answer (as `encode_ratings` takes them), as `encode_steps` makes it of its steps.

    Each line that says something is a step, thoughts included.
    """
    for row in rows:
        steps = [line for line in plain_text(row["completion"]).splitlines() if line.strip()]
        yield from encode_steps(tokenizer, [{**row, "completions": steps}], wrap=not isinstance(row["prompt"], str))


def as_pairs(rows: Sequence[Row], *, wrap: bool) -> list[Row]:
    """Preference rows all in plain text or all in chat turns; `wrap` puts plain text into turns.

    Where some rows hold turns, all do.
    """
    return _alike(rows, {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}, wrap)


def as_ratings(rows: Sequence[Row], *, wrap: bool) -> list[Row]:
    """The same for ratings, which keep their label."""
    alike = _alike(rows, {"prompt": "user", "completion": "assistant"}, wrap)
    return [{**texts, "label": bool(row["label"])} for texts, row in zip(alike, rows, strict=True)]


def as_prompts(rows: Sequence[Row], *, wrap: bool) -> list[Row]:
    """The same for prompts, which keep the answer that they have, and the task that made them, as JSON."""
    alike = _alike(rows, {"prompt": "user"}, wrap)
    # A table has the columns of its first row.
    blank = {"task": None} if any(row.get("task") is not None for row in rows) else {}
    return [
        texts | ({"answer": str(row["answer"])} if "answer" in row else {}) | blank | task_of(row)
        for texts, row in zip(alike, rows, strict=True)
    ]


def task_of(row: Row) -> dict[str, str]:
    """The reasoning-gym task that made a row, as text: a table has one type a column. Nothing for other rows."""
    return {"task": json.dumps(row["task"])} if row.get("task") is not None else {}


def _alike(rows: Sequence[Row], roles: dict[str, str], wrap: bool) -> list[Row]:
    turns = wrap or any(isinstance(row[column], list) for row in rows for column in roles)
    return [
        {column: _turns(row[column], role) if turns else row[column] for column, role in roles.items()} for row in rows
    ]


def _turns(value: str | Messages, role: str) -> Messages:
    """Messages with a role and a text alone, so that those of all rows have one shape."""
    return [{"role": turn["role"], "content": turn.get("content") or ""} for turn in as_messages(value, role)]


def _plain(row: Row, format_: Format) -> bool:
    """Whether the row is text without turns, where the tokenizer adds its own special tokens (a leading BOS)."""
    return format_ is Format.TEXT or (format_ is Format.PROMPT_COMPLETION and not _has_turns(row))


def _has_turns(row: Row) -> bool:
    return isinstance(row["prompt"], list) or isinstance(row["completion"], list)


def _render_row(tokenizer: Any, row: Row, format_: Format, loss_on: LossOn, number: int) -> Rendered:
    try:
        rendered = render_row(tokenizer, row, format_)
    except ModelError:
        raise
    # A template is the model's own code and raises what it likes.
    except Exception as error:
        raise refused(number, error) from error
    return rendered if loss_on == "answers" else Rendered(rendered.text, _all_but(rendered.muted, len(rendered.text)))


def _all_but(muted: Sequence[Span], end: int) -> list[Span]:
    starts, ends = [0, *(stop for _, stop in muted)], [*(start for start, _ in muted), end]
    return list(zip(starts, ends, strict=True))


def refused(number: int, error: Exception) -> DataError:
    return DataError(
        f"Row {number} does not fit the model's chat template: {error}",
        code="data.template",
        advice="Change the row's roles or their order, or take a model whose template allows them.",
    )


def render_row(tokenizer: Any, row: Row, format_: Format) -> Rendered:
    """The text of one row and which of it is the answer; plain text is all answer."""
    if format_ is Format.TEXT:
        text = _ended(row["text"], tokenizer)
        return Rendered(text, [(0, len(text))])
    if format_ is Format.PROMPT_COMPLETION:
        return _render_completion(tokenizer, row)
    rendered = _render_conversation(tokenizer, row["messages"], row.get("tools"))
    learned = [is_learned(message) for message in row["messages"] if message["role"] == "assistant"]
    if all(learned):
        return rendered
    said = list(zip(rendered.spans, learned, strict=True))
    return Rendered(rendered.text, [span for span, good in said if good], [span for span, good in said if not good])


def _render_completion(tokenizer: Any, row: Row) -> Rendered:
    if not _has_turns(row):
        text = row["prompt"] + _ended(row["completion"], tokenizer)
        return Rendered(text, [(len(row["prompt"]), len(text))])
    prompt = as_messages(row["prompt"], "user")
    rendered = _render_conversation(tokenizer, prompt + as_messages(row["completion"], "assistant"), None)
    answered_before = sum(message["role"] == "assistant" for message in prompt)
    return Rendered(rendered.text, rendered.spans[answered_before:])


def as_messages(value: str | Messages, role: str) -> Messages:
    """A plain string as one turn of `role`; messages as they are."""
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def render_chat(
    tokenizer: Any, messages: Messages, tools: list[Any] | None = None, *, add_generation_prompt: bool = False
) -> str:
    text: str = tokenizer.apply_chat_template(
        messages, tools=tools or None, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def _render_conversation(tokenizer: Any, messages: Messages, tools: list[Any] | None) -> Rendered:
    if _GENERATION_MARK.search(tokenizer.chat_template):
        return _render_marked(tokenizer, messages, tools)
    text = render_chat(tokenizer, messages, tools)
    spans = [
        _answer_span(tokenizer, messages, index, tools, text)
        for index, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    return Rendered(text, spans)


def _render_marked(tokenizer: Any, messages: Messages, tools: list[Any] | None) -> Rendered:
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, spans = render_jinja_template(
        conversations=[messages],
        tools=tools or None,
        chat_template=tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return Rendered(texts[0], [tuple(span) for span in spans[0]])


def _answer_span(tokenizer: Any, messages: Messages, index: int, tools: list[Any] | None, text: str) -> Span:
    """Where in `text` the assistant's turn `messages[index]` stands: its content and what ends the turn."""
    before = render_chat(tokenizer, messages[:index], tools, add_generation_prompt=True) if index else ""
    after = render_chat(tokenizer, messages[: index + 1], tools)
    if before and text.startswith(before) and after.startswith(before) and text.startswith(after.rstrip()):
        return len(before), len(after.rstrip())
    content = str(messages[index].get("content") or "").strip()
    found = text.find(content, len(before)) if content and text.startswith(before) else -1
    if found < 0:
        raise ModelError(
            "The model's chat template hides which part of a conversation the assistant said.",
            code="model.template",
            advice="Train on everything instead of the answers, or take a model whose template has generation marks.",
        )
    end = found + len(content)
    return found, end + _end_token_length(tokenizer, text, end)


def _end_token_length(tokenizer: Any, text: str, position: int) -> int:
    """Length of the special token that ends a turn at `position`, with the blanks before it; 0 when there is none."""
    blanks = len(text[position:]) - len(text[position:].lstrip())
    rest = text[position + blanks :]
    return max((blanks + len(token) for token in tokenizer.all_special_tokens if rest.startswith(token)), default=0)


def _ended(text: str, tokenizer: Any) -> str:
    end = tokenizer.eos_token or ""
    return text if text.endswith(end) else text + end


def _trained(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """For each token whether it begins inside a span; `spans` are in order and do not overlap."""
    starts = [start for start, _ in spans]

    def inside(position: int) -> bool:
        index = bisect_right(starts, position) - 1
        return index >= 0 and position < spans[index][1]

    return [last > first and inside(first) for first, last in offsets]


def prompt_of(row: Row, format_: Format) -> tuple[str | Messages, str]:
    """What the model is asked in a row, and the answer the row holds; for plain text its first third and the rest."""
    if format_ is Format.TEXT:
        words = row["text"].split()
        cut = max(1, len(words) // 3)
        return " ".join(words[:cut]), " ".join(words[cut:])
    if format_ is Format.CONVERSATION:
        messages = row["messages"]
        last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=len(messages))
        answer = messages[last]["content"] if last < len(messages) else ""
        return messages[:last], str(answer or "")
    answer = next((row[column] for column in ("completion", "chosen", "answer") if column in row), "")
    return row["prompt"], plain_text(answer)


def as_asked(prompt: str | Messages) -> dict[str, Any]:
    """What a sample says of its prompt beside the text of it: the turns of more than a question, or that it is raw."""
    if isinstance(prompt, str):
        return {"raw": True}
    return {"turns": prompt} if len(prompt) > 1 else {}


def plain_text(value: str | Messages) -> str:
    """Messages as readable text: one turn by its content alone, several with their roles."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return str(value[0].get("content") or "")
    return "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in value)
