"""The formats a dataset can have, and the shape of a row in each.

Every dataset is one of these after mapping; a row is a JSON object with exactly these columns (optional ones may be
missing). A *message* is `{"role": "system" | "user" | "assistant" | "tool", "content": str}`, with optional
`tool_calls` and `name`, and a `weight` of 0 where the assistant's message is context that is not to be learned.
"""

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    CONVERSATION = "conversation"
    PROMPT_COMPLETION = "prompt-completion"
    TEXT = "text"
    PREFERENCE = "preference"
    RATING = "rating"
    PROMPT = "prompt"
    PROMPT_ANSWER = "prompt-answer"
    STEPWISE = "stepwise"
    IMAGE_CONVERSATION = "image-conversation"
    DOCUMENTS = "documents"
    EDIT = "edit"


@dataclass(frozen=True)
class FormatSpec:
    """What a format is for and which columns its rows have."""

    format: Format
    title: str
    summary: str
    columns: dict[str, str]
    optional: dict[str, str]
    example: dict[str, object]


_USER = {"role": "user", "content": "What is 2 + 3?"}
_RIGHT = {"role": "assistant", "content": "2 + 3 = 5."}
_WRONG = {"role": "assistant", "content": "2 + 3 = 6."}

SPECS: dict[Format, FormatSpec] = {
    spec.format: spec
    for spec in (
        FormatSpec(
            Format.CONVERSATION,
            "Conversation",
            "Messages between a user and an assistant; the assistant's turns are what is learned.",
            {"messages": "list of messages, ending with the assistant"},
            {"tools": "list of JSON-schema tool definitions"},
            {"messages": [_USER, _RIGHT]},
        ),
        FormatSpec(
            Format.PROMPT_COMPLETION,
            "Prompt and completion",
            "A prompt and the text that should follow it; only the completion is learned.",
            {"prompt": "string or list of messages", "completion": "string or list of messages"},
            {},
            {"prompt": "2 + 3 =", "completion": " 5"},
        ),
        FormatSpec(
            Format.TEXT,
            "Text",
            "Plain text; every token is learned.",
            {"text": "string"},
            {},
            {"text": "Addition combines two numbers into their sum."},
        ),
        FormatSpec(
            Format.PREFERENCE,
            "Preference",
            "Two answers to one prompt, the better one marked.",
            {
                "prompt": "string or list of messages",
                "chosen": "string or list of messages",
                "rejected": "string or list of messages",
            },
            {},
            {"prompt": [_USER], "chosen": [_RIGHT], "rejected": [_WRONG]},
        ),
        FormatSpec(
            Format.RATING,
            "Rating",
            "One answer to a prompt with a thumbs up or down.",
            {
                "prompt": "string or list of messages",
                "completion": "string or list of messages",
                "label": "boolean: desirable or not",
            },
            {},
            {"prompt": [_USER], "completion": [_RIGHT], "label": True},
        ),
        FormatSpec(
            Format.PROMPT,
            "Prompt",
            "Prompts alone; the model under training writes the answers.",
            {"prompt": "string or list of messages"},
            {},
            {"prompt": [_USER]},
        ),
        FormatSpec(
            Format.PROMPT_ANSWER,
            "Prompt and answer",
            "A question with its verifiable answer.",
            {"prompt": "string or list of messages", "answer": "string: the final answer alone"},
            {
                "solution": "string: the worked solution",
                "task": "object: the reasoning-gym task that made the row: name, level, metadata",
            },
            {"prompt": [_USER], "answer": "5"},
        ),
        FormatSpec(
            Format.STEPWISE,
            "Stepwise",
            "A solution in steps, each step marked right or wrong.",
            {"prompt": "string", "completions": "list of strings: the steps", "labels": "list of booleans"},
            {},
            {"prompt": "2 + 3 + 1?", "completions": ["2 + 3 = 5", "5 + 1 = 7"], "labels": [True, False]},
        ),
        FormatSpec(
            Format.IMAGE_CONVERSATION,
            "Image conversation",
            "Conversations about images, in a zip with them; the last answer is what is learned.",
            {
                "images": "list of image files: PNG, JPEG or WebP",
                "prompt": "list of messages; `<image>` marks where an image stands, without marks they go first",
                "completion": "list of messages",
            },
            {},
            {
                "images": ["7.png"],
                "prompt": [{"role": "user", "content": "Which digit?"}],
                "completion": [_RIGHT],
            },
        ),
        FormatSpec(
            Format.DOCUMENTS,
            "Documents",
            "Documents to index for retrieval.",
            {"text": "string"},
            {"title": "string", "source": "string"},
            {"title": "Addition", "text": "Addition combines two numbers into their sum."},
        ),
        FormatSpec(
            Format.EDIT,
            "Edit",
            "A fact to change: the prompt that holds the subject, and the new target.",
            {
                "prompt": "string",
                "subject": "string: a part of the prompt",
                "target": "string: what is to follow, with its blank",
            },
            {
                "paraphrases": "list of strings: prompts with the same answer",
                "neighbours": "list of {prompt, target}: what must stay as it is",
            },
            {"prompt": "The Eiffel Tower is in", "subject": "The Eiffel Tower", "target": " Rome"},
        ),
    )
}
