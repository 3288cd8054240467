"""Ratings, prompts with and without answers, and solutions in steps."""

from polm_core.formats import Format
from tests.polm_core.data.shapes.shape import Shape, assistant, many, system, user

ANSWERS = [
    Shape(
        "kto",
        many(lambda n: {"prompt": [user(f"{n}?")], "completion": [assistant(f"{n}.")], "label": n % 2 == 0}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": True},
    ),
    Shape(
        "kto conversations",
        many(lambda n: {"messages": [user(f"{n}?"), assistant(f"{n}.")], "kto_tag": n % 2 == 0}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": True},
    ),
    Shape(
        "thumbs",
        many(lambda n: {"question": f"{n}?", "response": f"{n}.", "thumbs": "up" if n % 2 else "down"}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": False},
    ),
    Shape(
        "stars",
        many(lambda n: {"prompt": f"{n}?", "response": f"{n}.", "rating": 1 + n % 5}),
        Format.RATING,
        {"prompt": [user("0?")], "completion": [assistant("0.")], "label": False},
    ),
    Shape(
        "gsm8k",
        many(lambda n: {"question": f"What are {n} and 1?", "answer": f"{n} + 1 = {n + 1}\n#### {1000 + n:,}"}),
        Format.PROMPT_ANSWER,
        {"prompt": [user("What are 0 and 1?")], "answer": "1000", "solution": "0 + 1 = 1"},
    ),
    Shape(
        "plain question and answer",
        many(lambda n: {"question": f"Capital of land {n}?", "answer": f"Town {n}"}),
        Format.PROMPT_ANSWER,
        {"prompt": [user("Capital of land 0?")], "answer": "Town 0"},
    ),
    Shape(
        "problem, solution, answer",
        many(
            lambda n: {"problem": f"Solve {n}.", "solution": f"We add and find {n}.", "answer": n, "source": "made up"}
        ),
        Format.PROMPT_ANSWER,
        {"prompt": [user("Solve 0.")], "answer": "0", "solution": "We add and find 0."},
    ),
    Shape(
        "boxed",
        many(lambda n: {"problem": f"Solve {n}.", "solution": f"So it is \\boxed{{\\frac{{{n}}}{{2}}}}."}),
        Format.PROMPT_ANSWER,
        {
            "prompt": [user("Solve 0.")],
            "answer": "\\frac{0}{2}",
            "solution": "So it is \\boxed{\\frac{0}{2}}.",
        },
    ),
    Shape(
        "prompt and reference answer",
        many(lambda n: {"messages": [user(f"What is {n}?")], "reference_answer": f"{n}"}),
        Format.PROMPT_ANSWER,
        {"prompt": [user("What is 0?")], "answer": "0"},
    ),
    Shape(
        "ground truth of a reward",
        many(
            lambda n: {
                "data_source": "made up",
                "prompt": [user(f"What is {n}?")],
                "reward_model": {"ground_truth": f"{n}", "style": "rule"},
            }
        ),
        Format.PROMPT_ANSWER,
        {"prompt": [user("What is 0?")], "answer": "0"},
    ),
    Shape("prompts", many(lambda n: {"prompt": f"Tell {n}."}), Format.PROMPT, {"prompt": [user("Tell 0.")]}),
    Shape(
        "prompts as messages",
        many(lambda n: {"messages": [system("Be brief."), user(f"Tell {n}.")]}),
        Format.PROMPT,
        {"prompt": [system("Be brief."), user("Tell 0.")]},
    ),
    Shape(
        "stepwise",
        many(lambda n: {"prompt": f"{n}?", "completions": ["First.", "Then."], "labels": [True, n % 2 == 0]}),
        Format.STEPWISE,
        {"prompt": "0?", "completions": ["First.", "Then."], "labels": [True, True]},
    ),
    Shape(
        "stepwise with ratings",
        many(lambda n: {"problem": f"{n}?", "steps": ["First.", "Then."], "labels": [1, -1]}),
        Format.STEPWISE,
        {"prompt": "0?", "completions": ["First.", "Then."], "labels": [True, False]},
    ),
    Shape(
        "prm800k",
        many(
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
        many(
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
