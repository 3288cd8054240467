"""Facts to change, in our own shape and as CounterFact and zsRE have them."""

from polm_core.formats import Format
from tests.polm_core.data.shapes.shape import Shape, many

EDITS = [
    Shape(
        "edits",
        many(
            lambda n: {
                "prompt": f"Tower {n} is in",
                "subject": f"Tower {n}",
                "target": " Rome",
                "paraphrases": [f"To see tower {n} go to"],
                "neighbours": [{"prompt": f"House {n} is in", "target": " Bonn"}],
            }
        ),
        Format.EDIT,
        {
            "prompt": "Tower 0 is in",
            "subject": "Tower 0",
            "target": " Rome",
            "paraphrases": ["To see tower 0 go to"],
            "neighbours": [{"prompt": "House 0 is in", "target": " Bonn"}],
        },
    ),
    Shape(
        "edits as CounterFact has them",
        many(
            lambda n: {
                "case_id": n,
                "requested_rewrite": {
                    "prompt": "The mother tongue of {} is",
                    "relation_id": "P103",
                    "target_new": {"str": "English", "id": "Q1860"},
                    "target_true": {"str": "French", "id": "Q150"},
                    "subject": f"Danielle {n}",
                },
                "paraphrase_prompts": [f"Shayna does this. Danielle {n}, a native", f"Danielle {n} spoke"],
                "neighborhood_prompts": [f"The mother tongue of Leon {n} is", f"Raymond {n}, speaker of"],
            }
        ),
        Format.EDIT,
        {
            "prompt": "The mother tongue of Danielle 0 is",
            "subject": "Danielle 0",
            "target": " English",
            "paraphrases": ["Shayna does this. Danielle 0, a native", "Danielle 0 spoke"],
            "neighbours": [
                {"prompt": "The mother tongue of Leon 0 is", "target": " French"},
                {"prompt": "Raymond 0, speaker of", "target": " French"},
            ],
        },
    ),
    Shape(
        "edits without neighbours",
        many(lambda n: {"question": f"Who wrote book {n}?", "subject": f"book {n}", "alt": "Ada", "rephrase": ""}),
        Format.EDIT,
        {"prompt": "Who wrote book 0?", "subject": "book 0", "target": " Ada"},
    ),
]
