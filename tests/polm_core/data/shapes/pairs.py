"""Preferences: pairs of a better and a worse answer."""

from polm_core.formats import Format
from tests.polm_core.data.shapes.shape import HH_PROMPT, Shape, assistant, many, system, transcript, user

PAIRS = [
    Shape(
        "hh-rlhf",
        many(lambda n: {"chosen": transcript(n, f"{n + 1}."), "rejected": transcript(n, "Who knows?")}),
        Format.PREFERENCE,
        {"prompt": HH_PROMPT, "chosen": [assistant("1.")], "rejected": [assistant("Who knows?")]},
    ),
    Shape(
        "hh-rlhf with prompt",
        many(
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
        many(
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
        many(
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
        many(
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
        many(lambda n: {"instruction": "Double it.", "input": f"{n}", "output": [f"It is {2 * n}.", "No idea."]}),
        Format.PREFERENCE,
        {
            "prompt": [user("Double it.\n\n0")],
            "chosen": [assistant("It is 0.")],
            "rejected": [assistant("No idea.")],
        },
    ),
    Shape(
        "pairs without prompt",
        many(lambda n: {"chosen": f"The sum of {n} and 1 is {n + 1}", "rejected": f"The sum of {n} and 1 is unknown"}),
        Format.PREFERENCE,
        {"prompt": "The sum of 0 and 1 is ", "chosen": "1", "rejected": "unknown"},
    ),
    Shape(
        "answers that repeat the prompt",
        many(
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
        many(lambda n: {"query": f"{n}?", "good_answer": f"It is {n}.", "bad_answer": "Dunno.", "good_model": "m1"}),
        Format.PREFERENCE,
        {"prompt": [user("0?")], "chosen": [assistant("It is 0.")], "rejected": [assistant("Dunno.")]},
    ),
    Shape(
        "arena",
        many(
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
        many(lambda n: {"prompt": f"{n}?", "response_0": "Nought.", "response_1": "One.", "better_response_id": n % 2}),
        Format.PREFERENCE,
        {"prompt": [user("0?")], "chosen": [assistant("Nought.")], "rejected": [assistant("One.")]},
    ),
    Shape(
        "openai preferences",
        many(
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
        many(
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
        many(
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
]
