"""Prompts with completions, and plain text."""

from polm_core.formats import Format
from tests.polm_core.data.shapes.shape import Shape, assistant, many, user

TEXTS = [
    Shape(
        "raw prompt and completion",
        many(lambda n: {"prompt": f"{n} + 1 =", "completion": f" {n + 1}"}),
        Format.PROMPT_COMPLETION,
        {"prompt": "0 + 1 =", "completion": " 1"},
    ),
    Shape(
        "nested and camel case",
        many(lambda n: {"data": {"userPrompt": f"What is {n}?", "modelResponse": f"That is {n}."}, "meta": {"n": n}}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("What is 0?")], "completion": [assistant("That is 0.")]},
    ),
    Shape(
        "question and response",
        many(lambda n: {"Question": f"What comes after {n}?", "Response": f"After {n} comes {n + 1}, of course."}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("What comes after 0?")], "completion": [assistant("After 0 comes 1, of course.")]},
    ),
    Shape(
        "input and output",
        many(lambda n: {"input": f"Tell me of {n}.", "output": f"There is little to tell about {n}, but it is round."}),
        Format.PROMPT_COMPLETION,
        {
            "prompt": [user("Tell me of 0.")],
            "completion": [assistant("There is little to tell about 0, but it is round.")],
        },
    ),
    Shape(
        "text",
        many(lambda n: {"text": f"The number {n} is a number."}),
        Format.TEXT,
        {"text": "The number 0 is a number."},
    ),
    Shape(
        "text with metadata",
        many(lambda n: {"url": f"http://x/{n}", "content": f"A page about {n}.", "date": "2026"}),
        Format.TEXT,
        {"text": "A page about 0."},
    ),
    Shape(
        "documents",
        many(lambda n: {"title": f"Page {n}", "body": f"A page about {n}.", "url": f"http://x/{n}"}),
        Format.DOCUMENTS,
        {"title": "Page 0", "text": "A page about 0.", "source": "http://x/0"},
    ),
    Shape(
        "problem and solution in code",
        many(lambda n: {"lang": "python", "problem": f"Print {n}.", "solution": f"print({n})"}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("Print 0.")], "completion": [assistant("print(0)")]},
    ),
    Shape(
        "inputs and targets",
        many(lambda n: {"inputs": f"Translate {n}.", "targets": f"Number {n}.", "task": "translation"}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("Translate 0.")], "completion": [assistant("Number 0.")]},
    ),
]
