"""Conversations, as chat formats and trainers write them."""

from polm_core.formats import Format
from tests.polm_core.data.shapes.shape import HH_PROMPT, Shape, assistant, many, system, transcript, user

CONVERSATIONS = [
    Shape(
        "openai messages",
        many(lambda n: {"messages": [user(f"Count to {n}"), assistant(f"I count to {n}.")], "id": n}),
        Format.CONVERSATION,
        {"messages": [user("Count to 0"), assistant("I count to 0.")]},
    ),
    Shape(
        "typed parts",
        many(
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
        many(
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
        many(
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
        many(
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
        many(
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
        many(lambda n: {"instruction": "Double it.", "input": "" if n else "4", "output": f"{n}", "text": "..."}),
        Format.CONVERSATION,
        {"messages": [user("Double it.\n\n4"), assistant("0")]},
    ),
    Shape(
        "alpaca with history and system",
        many(
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
        many(
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
        many(lambda n: {"instruction": f"Name {n}.", "context": "", "response": f"It is {n}.", "category": "open_qa"}),
        Format.CONVERSATION,
        {"messages": [user("Name 0."), assistant("It is 0.")]},
    ),
    Shape(
        "oasst turns",
        many(lambda n: {"thread": [{"role": "prompter", "text": f"Hi {n}"}, {"role": "assistant", "text": "Hello."}]}),
        Format.CONVERSATION,
        {"messages": [user("Hi 0"), assistant("Hello.")]},
    ),
    Shape(
        "ultrachat alternating texts",
        many(lambda n: {"id": str(n), "conversation": [f"Is {n} a number?", "It is.", "Sure?", "Sure."]}),
        Format.CONVERSATION,
        {"messages": [user("Is 0 a number?"), assistant("It is."), user("Sure?"), assistant("Sure.")]},
    ),
    Shape(
        "struct of lists",
        many(lambda n: {"messages": {"role": ["user", "assistant"], "content": [f"Say {n}", f"{n}"]}}),
        Format.CONVERSATION,
        {"messages": [user("Say 0"), assistant("0")]},
    ),
    Shape(
        "gemini",
        many(
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
        many(
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
        many(lambda n: {"messages": [{"role": "User", "content": f"Say {n}"}, {"role": "Chatbot", "content": f"{n}"}]}),
        Format.CONVERSATION,
        {"messages": [user("Say 0"), assistant("0")]},
    ),
    Shape(
        "capybara",
        many(
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
        many(lambda n: {"text": transcript(n, f"{n + 1}."), "params": 52}),
        Format.CONVERSATION,
        {"messages": [*HH_PROMPT, assistant("1.")]},
    ),
]
