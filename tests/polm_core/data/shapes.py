"""Rows in the shapes of well-known datasets, made up here, with the format they have and what the first becomes."""

from dataclasses import dataclass
from typing import Any

from polm_core.formats import Format

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    name: str
    rows: list[Row]
    format: Format
    first: Row


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def system(text: str) -> Row:
    return {"role": "system", "content": text}


def _many(make: Any, count: int = 12) -> list[Row]:
    return [make(number) for number in range(count)]


def _transcript(n: int, answer: str) -> str:
    return (
        f"\n\nHuman: How many are {n} and 1?\n\nAssistant: Do you mean the sum?\n\nHuman: Yes.\n\nAssistant: {answer}"
    )


_HH_PROMPT = [user("How many are 0 and 1?"), assistant("Do you mean the sum?"), user("Yes.")]

SHAPES = [
    Shape(
        "openai messages",
        _many(lambda n: {"messages": [user(f"Count to {n}"), assistant(f"I count to {n}.")], "id": n}),
        Format.CONVERSATION,
        {"messages": [user("Count to 0"), assistant("I count to 0.")]},
    ),
    Shape(
        "typed parts",
        _many(
            lambda n: {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": f"Say {n}"}, {"type": "text", "text": "!"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": f"{n}!"}]},
                ]
            }
        ),
        Format.CONVERSATION,
        {"messages": [user("Say 0!"), assistant("0!")]},
    ),
    Shape(
        "parts of the responses API",
        _many(
            lambda n: {
                "messages": [
                    {"role": "user", "content": [{"type": "input_text", "text": f"Say {n}"}]},
                    {"role": "assistant", "content": [{"type": "output_text", "text": f"{n}"}]},
                ]
            }
        ),
        Format.CONVERSATION,
        {"messages": [user("Say 0"), assistant("0")]},
    ),
    Shape(
        "sharegpt with tools",
        _many(
            lambda n: {
                "conversations": [
                    {"from": "human", "value": f"Weather in town {n}?"},
                    {"from": "function_call", "value": f'{{"name": "weather", "arguments": {{"town": {n}}}}}'},
                    {"from": "observation", "value": "sunny"},
                    {"from": "gpt", "value": "It is sunny."},
                ],
                "tools": '[{"name": "weather", "description": "d", "parameters": {"type": "object"}}]',
                "system": "Be brief.",
            }
        ),
        Format.CONVERSATION,
        {
            "messages": [
                system("Be brief."),
                user("Weather in town 0?"),
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"town": 0}}}],
                },
                {"role": "tool", "content": "sunny"},
                assistant("It is sunny."),
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}},
                }
            ],
        },
    ),
    Shape(
        "xlam function calls",
        _many(
            lambda n: {
                "id": n,
                "query": f"Weather in town {n}?",
                "answers": f'[{{"name": "weather", "arguments": {{"town": {n}}}}}]',
                "tools": '[{"name": "weather", "description": "d", "parameters": {"town": {"type": "int"}}}]',
            }
        ),
        Format.CONVERSATION,
        {
            "messages": [
                user("Weather in town 0?"),
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"town": 0}}}],
                },
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "weather", "description": "d", "parameters": {"town": {"type": "int"}}},
                }
            ],
        },
    ),
    Shape(
        "openai messages with weights",
        _many(
            lambda n: {
                "messages": [
                    user(f"Count to {n}"),
                    {"role": "assistant", "content": "No.", "weight": 0},
                    user("Please."),
                    {"role": "assistant", "content": f"{n}.", "weight": 1},
                    user("Thanks."),
                    {"role": "assistant", "content": "Bye.", "weight": 0},
                ]
            }
        ),
        Format.CONVERSATION,
        {
            "messages": [
                user("Count to 0"),
                {"role": "assistant", "content": "No.", "weight": 0},
                user("Please."),
                assistant("0."),
            ]
        },
    ),
    Shape(
        "alpaca",
        _many(lambda n: {"instruction": "Double it.", "input": "" if n else "4", "output": f"{n}", "text": "..."}),
        Format.CONVERSATION,
        {"messages": [user("Double it.\n\n4"), assistant("0")]},
    ),
    Shape(
        "alpaca with history and system",
        _many(
            lambda n: {
                "instruction": f"And {n}?",
                "input": "",
                "output": "Yes.",
                "system": "Agree.",
                "history": [["Is it so?", "It is."]],
            }
        ),
        Format.CONVERSATION,
        {
            "messages": [
                system("Agree."),
                user("Is it so?"),
                assistant("It is."),
                user("And 0?"),
                assistant("Yes."),
            ]
        },
    ),
    Shape(
        "self-instruct seed tasks",
        _many(
            lambda n: {
                "id": f"seed_task_{n}",
                "name": "double",
                "instruction": f"Double {n}.",
                "instances": [{"input": "", "output": f"{2 * n}"}],
                "is_classification": False,
            }
        ),
        Format.CONVERSATION,
        {"messages": [user("Double 0."), assistant("0")]},
    ),
    Shape(
        "dolly",
        _many(lambda n: {"instruction": f"Name {n}.", "context": "", "response": f"It is {n}.", "category": "open_qa"}),
        Format.CONVERSATION,
        {"messages": [user("Name 0."), assistant("It is 0.")]},
    ),
    Shape(
        "oasst turns",
        _many(lambda n: {"thread": [{"role": "prompter", "text": f"Hi {n}"}, {"role": "assistant", "text": "Hello."}]}),
        Format.CONVERSATION,
        {"messages": [user("Hi 0"), assistant("Hello.")]},
    ),
    Shape(
        "ultrachat alternating texts",
        _many(lambda n: {"id": str(n), "conversation": [f"Is {n} a number?", "It is.", "Sure?", "Sure."]}),
        Format.CONVERSATION,
        {"messages": [user("Is 0 a number?"), assistant("It is."), user("Sure?"), assistant("Sure.")]},
    ),
    Shape(
        "struct of lists",
        _many(lambda n: {"messages": {"role": ["user", "assistant"], "content": [f"Say {n}", f"{n}"]}}),
        Format.CONVERSATION,
        {"messages": [user("Say 0"), assistant("0")]},
    ),
    Shape(
        "raw prompt and completion",
        _many(lambda n: {"prompt": f"{n} + 1 =", "completion": f" {n + 1}"}),
        Format.PROMPT_COMPLETION,
        {"prompt": "0 + 1 =", "completion": " 1"},
    ),
    Shape(
        "nested and camel case",
        _many(lambda n: {"data": {"userPrompt": f"What is {n}?", "modelResponse": f"That is {n}."}, "meta": {"n": n}}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("What is 0?")], "completion": [assistant("That is 0.")]},
    ),
    Shape(
        "question and response",
        _many(lambda n: {"Question": f"What comes after {n}?", "Response": f"After {n} comes {n + 1}, of course."}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("What comes after 0?")], "completion": [assistant("After 0 comes 1, of course.")]},
    ),
    Shape(
        "input and output",
        _many(
            lambda n: {"input": f"Tell me of {n}.", "output": f"There is little to tell about {n}, but it is round."}
        ),
        Format.PROMPT_COMPLETION,
        {
            "prompt": [user("Tell me of 0.")],
            "completion": [assistant("There is little to tell about 0, but it is round.")],
        },
    ),
    Shape(
        "text",
        _many(lambda n: {"text": f"The number {n} is a number."}),
        Format.TEXT,
        {"text": "The number 0 is a number."},
    ),
    Shape(
        "text with metadata",
        _many(lambda n: {"url": f"http://x/{n}", "content": f"A page about {n}.", "date": "2026"}),
        Format.TEXT,
        {"text": "A page about 0."},
    ),
    Shape(
        "hh-rlhf",
        _many(lambda n: {"chosen": _transcript(n, f"{n + 1}."), "rejected": _transcript(n, "Who knows?")}),
        Format.PREFERENCE,
        {"prompt": _HH_PROMPT, "chosen": [assistant("1.")], "rejected": [assistant("Who knows?")]},
    ),
    Shape(
        "hh-rlhf with prompt",
        _many(
            lambda n: {
                "prompt": f"\n\nHuman: How many are {n} and 1?\n\nAssistant:",
                "chosen": f" {n + 1}.",
                "rejected": " Who knows?",
            }
        ),
        Format.PREFERENCE,
        {
            "prompt": [user("How many are 0 and 1?")],
            "chosen": [assistant(" 1.")],
            "rejected": [assistant(" Who knows?")],
        },
    ),
    Shape(
        "ultrafeedback binarised",
        _many(
            lambda n: {
                "prompt": f"Say {n}",
                "prompt_id": f"{n:064x}",
                "chosen": [user(f"Say {n}"), assistant(f"{n}")],
                "rejected": [user(f"Say {n}"), assistant("No")],
                "messages": [user(f"Say {n}"), assistant(f"{n}")],
                "score_chosen": 8.0,
                "score_rejected": 4.5,
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("Say 0")], "chosen": [assistant("0")], "rejected": [assistant("No")]},
    ),
    Shape(
        "orca pairs",
        _many(
            lambda n: {
                "system": "" if n else "Be kind.",
                "question": f"{n}?",
                "chosen": "Yes, dear.",
                "rejected": "No.",
            }
        ),
        Format.PREFERENCE,
        {
            "prompt": [system("Be kind."), user("0?")],
            "chosen": [assistant("Yes, dear.")],
            "rejected": [assistant("No.")],
        },
    ),
    Shape(
        "sharegpt pairs",
        _many(
            lambda n: {
                "conversations": [{"from": "human", "value": f"Say {n}"}],
                "chosen": {"from": "gpt", "value": f"{n}"},
                "rejected": {"from": "gpt", "value": "No"},
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("Say 0")], "chosen": [assistant("0")], "rejected": [assistant("No")]},
    ),
    Shape(
        "llama-factory pairs",
        _many(lambda n: {"instruction": "Double it.", "input": f"{n}", "output": [f"It is {2 * n}.", "No idea."]}),
        Format.PREFERENCE,
        {
            "prompt": [user("Double it.\n\n0")],
            "chosen": [assistant("It is 0.")],
            "rejected": [assistant("No idea.")],
        },
    ),
    Shape(
        "pairs without prompt",
        _many(lambda n: {"chosen": f"The sum of {n} and 1 is {n + 1}", "rejected": f"The sum of {n} and 1 is unknown"}),
        Format.PREFERENCE,
        {"prompt": "The sum of 0 and 1 is ", "chosen": "1", "rejected": "unknown"},
    ),
    Shape(
        "answers that repeat the prompt",
        _many(
            lambda n: {
                "prompt": f"Once there were {n}",
                "chosen": f"Once there were {n} bears.",
                "rejected": f"Once there were {n} of what?",
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("Once there were 0")], "chosen": [assistant(" bears.")], "rejected": [assistant(" of what?")]},
    ),
    Shape(
        "other names for a pair",
        _many(lambda n: {"query": f"{n}?", "good_answer": f"It is {n}.", "bad_answer": "Dunno.", "good_model": "m1"}),
        Format.PREFERENCE,
        {"prompt": [user("0?")], "chosen": [assistant("It is 0.")], "rejected": [assistant("Dunno.")]},
    ),
    Shape(
        "arena",
        _many(
            lambda n: {
                "prompt": f"{n}?",
                "response_a": "Alpha says so.",
                "response_b": "Beta says so.",
                "winner": "model_b" if n % 3 == 0 else "tie" if n % 3 == 1 else "model_a",
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("0?")], "chosen": [assistant("Beta says so.")], "rejected": [assistant("Alpha says so.")]},
    ),
    Shape(
        "saferlhf",
        _many(
            lambda n: {"prompt": f"{n}?", "response_0": "Nought.", "response_1": "One.", "better_response_id": n % 2}
        ),
        Format.PREFERENCE,
        {"prompt": [user("0?")], "chosen": [assistant("Nought.")], "rejected": [assistant("One.")]},
    ),
    Shape(
        "kto",
        _many(lambda n: {"prompt": [user(f"{n}?")], "completion": [assistant(f"{n}.")], "label": n % 2 == 0}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": True},
    ),
    Shape(
        "kto conversations",
        _many(lambda n: {"messages": [user(f"{n}?"), assistant(f"{n}.")], "kto_tag": n % 2 == 0}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": True},
    ),
    Shape(
        "thumbs",
        _many(lambda n: {"question": f"{n}?", "response": f"{n}.", "thumbs": "up" if n % 2 else "down"}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": False},
    ),
    Shape(
        "stars",
        _many(lambda n: {"prompt": f"{n}?", "response": f"{n}.", "rating": 1 + n % 5}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": False},
    ),
    Shape(
        "gsm8k",
        _many(lambda n: {"question": f"What are {n} and 1?", "answer": f"{n} + 1 = {n + 1}\n#### {1000 + n:,}"}),
        Format.PROMPT_ANSWER,
        {"prompt": [user("What are 0 and 1?")], "answer": "1000", "solution": "0 + 1 = 1"},
    ),
    Shape(
        "plain question and answer",
        _many(lambda n: {"question": f"Capital of land {n}?", "answer": f"Town {n}"}),
        Format.PROMPT_ANSWER,
        {"prompt": [user("Capital of land 0?")], "answer": "Town 0"},
    ),
    Shape(
        "problem, solution, answer",
        _many(
            lambda n: {"problem": f"Solve {n}.", "solution": f"We add and find {n}.", "answer": n, "source": "made up"}
        ),
        Format.PROMPT_ANSWER,
        {"prompt": [user("Solve 0.")], "answer": "0", "solution": "We add and find 0."},
    ),
    Shape(
        "boxed",
        _many(lambda n: {"problem": f"Solve {n}.", "solution": f"So it is \\boxed{{\\frac{{{n}}}{{2}}}}."}),
        Format.PROMPT_ANSWER,
        {
            "prompt": [user("Solve 0.")],
            "answer": "\\frac{0}{2}",
            "solution": "So it is \\boxed{\\frac{0}{2}}.",
        },
    ),
    Shape(
        "gemini",
        _many(
            lambda n: {
                "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": f"Say {n}"}]},
                    {"role": "model", "parts": [{"text": f"{n}"}]},
                ],
            }
        ),
        Format.CONVERSATION,
        {"messages": [system("Be brief."), user("Say 0"), assistant("0")]},
    ),
    Shape(
        "bedrock",
        _many(
            lambda n: {
                "schemaVersion": "bedrock-conversation-2024",
                "system": [{"text": "Be brief."}],
                "messages": [
                    {"role": "user", "content": [{"text": f"Say {n}"}]},
                    {"role": "assistant", "content": [{"text": f"{n}"}]},
                ],
            }
        ),
        Format.CONVERSATION,
        {"messages": [system("Be brief."), user("Say 0"), assistant("0")]},
    ),
    Shape(
        "cohere",
        _many(
            lambda n: {"messages": [{"role": "User", "content": f"Say {n}"}, {"role": "Chatbot", "content": f"{n}"}]}
        ),
        Format.CONVERSATION,
        {"messages": [user("Say 0"), assistant("0")]},
    ),
    Shape(
        "capybara",
        _many(
            lambda n: {
                "source": "made up",
                "conversation": [
                    {"input": f"Is {n} a number?", "output": "It is."},
                    {"input": "Sure?", "output": "Yes."},
                ],
            }
        ),
        Format.CONVERSATION,
        {"messages": [user("Is 0 a number?"), assistant("It is."), user("Sure?"), assistant("Yes.")]},
    ),
    Shape(
        "transcripts",
        _many(lambda n: {"text": _transcript(n, f"{n + 1}."), "params": 52}),
        Format.CONVERSATION,
        {"messages": [*_HH_PROMPT, assistant("1.")]},
    ),
    Shape(
        "openai preferences",
        _many(
            lambda n: {
                "input": {"messages": [user(f"Say {n}")], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [assistant(f"{n}")],
                "non_preferred_output": [assistant("No")],
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("Say 0")], "chosen": [assistant("0")], "rejected": [assistant("No")]},
    ),
    Shape(
        "instruction with a better and a worse response",
        _many(
            lambda n: {
                "instruction": f"Say {n}",
                "chosen_response": f"{n}",
                "rejected_response": "No",
                "chosen_avg_rating": 4.5,
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("Say 0")], "chosen": [assistant("0")], "rejected": [assistant("No")]},
    ),
    Shape(
        "arena conversations",
        _many(
            lambda n: {
                "model_a": "m",
                "model_b": "n",
                "winner": "model_b" if n % 2 == 0 else "model_a",
                "conversation_a": [user(f"Say {n}"), assistant("No")],
                "conversation_b": [user(f"Say {n}"), assistant(f"{n}")],
            }
        ),
        Format.PREFERENCE,
        {"prompt": [user("Say 0")], "chosen": [assistant("0")], "rejected": [assistant("No")]},
    ),
    Shape(
        "prompt and reference answer",
        _many(lambda n: {"messages": [user(f"What is {n}?")], "reference_answer": f"{n}"}),
        Format.PROMPT_ANSWER,
        {"prompt": [user("What is 0?")], "answer": "0"},
    ),
    Shape(
        "ground truth of a reward",
        _many(
            lambda n: {
                "data_source": "made up",
                "prompt": [user(f"What is {n}?")],
                "reward_model": {"ground_truth": f"{n}", "style": "rule"},
            }
        ),
        Format.PROMPT_ANSWER,
        {"prompt": [user("What is 0?")], "answer": "0"},
    ),
    Shape(
        "problem and solution in code",
        _many(lambda n: {"lang": "python", "problem": f"Print {n}.", "solution": f"print({n})"}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("Print 0.")], "completion": [assistant("print(0)")]},
    ),
    Shape(
        "inputs and targets",
        _many(lambda n: {"inputs": f"Translate {n}.", "targets": f"Number {n}.", "task": "translation"}),
        Format.PROMPT_COMPLETION,
        {"prompt": [user("Translate 0.")], "completion": [assistant("Number 0.")]},
    ),
    Shape("prompts", _many(lambda n: {"prompt": f"Tell {n}."}), Format.PROMPT, {"prompt": [user("Tell 0.")]}),
    Shape(
        "prompts as messages",
        _many(lambda n: {"messages": [system("Be brief."), user(f"Tell {n}.")]}),
        Format.PROMPT,
        {"prompt": [system("Be brief."), user("Tell 0.")]},
    ),
    Shape(
        "stepwise",
        _many(lambda n: {"prompt": f"{n}?", "completions": ["First.", "Then."], "labels": [True, n % 2 == 0]}),
        Format.STEPWISE,
        {"prompt": "0?", "completions": ["First.", "Then."], "labels": [True, True]},
    ),
    Shape(
        "stepwise with ratings",
        _many(lambda n: {"problem": f"{n}?", "steps": ["First.", "Then."], "labels": [1, -1]}),
        Format.STEPWISE,
        {"prompt": "0?", "completions": ["First.", "Then."], "labels": [True, False]},
    ),
    Shape(
        "prm800k",
        _many(
            lambda n: {
                "labeler": "x",
                "question": {"problem": f"{n}?", "ground_truth_answer": f"{n}"},
                "label": {
                    "steps": [
                        {
                            "completions": [{"text": "Hm.", "rating": 0}, {"text": "First.", "rating": 1}],
                            "human_completion": None,
                            "chosen_completion": 1,
                        },
                        {
                            "completions": [{"text": "Or.", "rating": -1}],
                            "human_completion": {"text": "Then.", "rating": None},
                            "chosen_completion": None,
                        },
                        {
                            "completions": [{"text": "So.", "rating": 1}, {"text": "Wrong.", "rating": -1}],
                            "human_completion": None,
                            "chosen_completion": None,
                        },
                    ],
                    "finish_reason": "found_error",
                },
            }
        ),
        Format.STEPWISE,
        {"prompt": "0?", "completions": ["First.", "Then.", "Wrong."], "labels": [True, True, False]},
    ),
    Shape(
        "math-shepherd",
        _many(
            lambda n: {
                "input": f"What is {n} + 1? Step 1: Add 1 to {n}. ки\nStep 2: The answer is: 9 ки",
                "label": f"What is {n} + 1? Step 1: Add 1 to {n}. +\nStep 2: The answer is: 9 -",
                "task": "MATH",
            }
        ),
        Format.STEPWISE,
        {
            "prompt": "What is 0 + 1?",
            "completions": ["Step 1: Add 1 to 0.", "Step 2: The answer is: 9"],
            "labels": [True, False],
        },
    ),
]
