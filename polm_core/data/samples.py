"""Small datasets: `python -m polm_core.data.samples DIR` writes them, one as a zip with images, the others as JSONL.

The texts are of our own making; the images are scikit-learn's handwritten digits. The same rows come out every time.
They are easy on purpose: a model of 135M parameters learns the style of the answers, and mostly their content, in a few
dozen steps on a laptop.
"""

import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import permutations, product
from pathlib import Path

from polm_core.data.handbook import DOCUMENTS, QUESTIONS
from polm_core.data.values import Row
from polm_core.formats import Format

_SEED = 2503
_PROBES = Path(__file__).parent.parent / "evaluation" / "probes.json"

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WORDS = (
    "apple",
    "bridge",
    "cloud",
    "drum",
    "engine",
    "forest",
    "garden",
    "harbour",
    "island",
    "jacket",
    "kettle",
    "lamp",
)
_UNITS = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
)
_NAMES = ("Ada", "Ben", "Chloe", "Dev", "Emil", "Fatima", "Goran", "Hana", "Ines", "Jonas")
_THINGS = ("marbles", "stamps", "apples", "pencils", "books", "shells", "buttons", "cards")


@dataclass(frozen=True)
class Exchange:
    """A question with its right answer and one that is wrong."""

    question: str
    right: str
    wrong: str


def _sums() -> Iterator[Exchange]:
    for a, b in product(range(1, 10), repeat=2):
        first, second, total = _NUMBERS[a], _NUMBERS[b], _NUMBERS[a + b]
        yield Exchange(
            f"What is {first} plus {second}?",
            f"{first.capitalize()} plus {second} is {total}.",
            f"{first.capitalize()} plus {second} is {_NUMBERS[(a + b + 3) % 19]}.",
        )


def _conversions() -> Iterator[Exchange]:
    for (large, small, factor), count in product(_UNITS, range(2, 14)):
        yield Exchange(
            f"How many {small} are {count} {large}?",
            f"{count} {large} are {count * factor:,} {small}.",
            f"{count} {large} are {(count + 2) * factor:,} {small}.",
        )


def _weekdays() -> Iterator[Exchange]:
    for place, ahead in product(range(7), range(2, 7)):
        start = f"{_NUMBERS[ahead]} days after {_DAYS[place]}"
        yield Exchange(
            f"Which day comes {start}?",
            f"{start.capitalize().replace(_DAYS[place].lower(), _DAYS[place])} comes {_DAYS[(place + ahead) % 7]}.",
            f"{start.capitalize().replace(_DAYS[place].lower(), _DAYS[place])} comes {_DAYS[(place + ahead + 1) % 7]}.",
        )


def _orders() -> Iterator[Exchange]:
    for words in permutations(_WORDS[::2], 3):
        if list(words) != sorted(words):
            yield Exchange(
                f"Put these words in alphabetical order: {', '.join(words)}.",
                f"In alphabetical order: {', '.join(sorted(words))}.",
                f"In alphabetical order: {', '.join(words)}.",
            )


def _spellings() -> Iterator[Exchange]:
    for word in _WORDS:
        spelled = "-".join(word.upper())
        yield Exchange(
            f"Spell the word {word}.", f"{word.capitalize()} is spelled {spelled}.", f"{spelled[:-2]}, I think."
        )


def _exchanges(rng: random.Random, count: int) -> list[Exchange]:
    """`count` different exchanges of all kinds, shuffled."""
    pool = [exchange for make in (_sums, _conversions, _weekdays, _orders, _spellings) for exchange in make()]
    return rng.sample(pool, count)


def _user(text: str) -> Row:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def _conversation_rows(rng: random.Random) -> Iterator[Row]:
    """Short questions, each answered in one sentence that takes up the question; every fourth goes on for a turn."""
    exchanges = _exchanges(rng, 320)
    follow_ups = _exchanges(rng, 80)
    for place, exchange in enumerate(exchanges):
        messages = [_user(exchange.question), _assistant(exchange.right)]
        if place % 4 == 0:
            follow_up = follow_ups[place // 4]
            messages += [_user(follow_up.question), _assistant(follow_up.right)]
        yield {"messages": messages}
    for number in range(80):
        count = number + 2
        yield {
            "messages": [
                {"role": "system", "content": "Answer with a number alone."},
                _user(f"What comes after {count}?"),
                _assistant(f"{count + 1}"),
            ]
        }


def _preference_rows(rng: random.Random) -> Iterator[Row]:
    """The short right answer against a wrong, a rude and a rambling one in turn."""
    for place, exchange in enumerate(_exchanges(rng, 300)):
        rejected = (
            exchange.wrong,
            "That is a silly question. Work it out yourself.",
            "Well, that is an interesting question, and there is a lot to say about it. Let me think. "
            f"{exchange.wrong} But then again, it could be something else, who knows?",
        )[place % 3]
        yield {
            "prompt": [_user(exchange.question)],
            "chosen": [_assistant(exchange.right)],
            "rejected": [_assistant(rejected)],
        }


def _answer_rows(rng: random.Random) -> Iterator[Row]:
    """Sums in figures and in small stories, with the answer as a whole number and the solution in one line."""
    seen: set[str] = set()
    while len(seen) < 400:
        row = rng.choice(_PROBLEMS)(rng)
        if row["prompt"] not in seen:
            seen.add(row["prompt"])
            yield row


def _problem(question: str, solution: str, answer: int) -> Row:
    return {"prompt": question, "answer": str(answer), "solution": solution}


def _gift(rng: random.Random) -> Row:
    name, other = rng.sample(_NAMES, 2)
    thing, have, more = rng.choice(_THINGS), rng.randint(3, 30), rng.randint(2, 20)
    return _problem(
        f"{name} has {have} {thing}. {other} gives {name} {more} more. How many {thing} does {name} have now?",
        f"{have} + {more} = {have + more}",
        have + more,
    )


def _loss(rng: random.Random) -> Row:
    name, thing, have = rng.choice(_NAMES), rng.choice(_THINGS), rng.randint(10, 40)
    less = rng.randint(2, have - 1)
    return _problem(
        f"{name} has {have} {thing} and loses {less} of them. How many {thing} are left?",
        f"{have} - {less} = {have - less}",
        have - less,
    )


def _boxes(rng: random.Random) -> Row:
    thing, boxes, each = rng.choice(_THINGS), rng.randint(2, 9), rng.randint(2, 9)
    return _problem(
        f"There are {boxes} boxes with {each} {thing} in each. How many {thing} are there altogether?",
        f"{boxes} * {each} = {boxes * each}",
        boxes * each,
    )


def _sum_of_three(rng: random.Random) -> Row:
    a, b, c = (rng.randint(1, 20) for _ in range(3))
    return _problem(f"What is {a} + {b} + {c}?", f"{a} + {b} = {a + b}, and {a + b} + {c} = {a + b + c}", a + b + c)


def _probe_rows(_: random.Random) -> Iterator[Row]:
    """Openings that may go on with an insult or without: what the probes for toxicity go on from."""
    probes = json.loads(_PROBES.read_text(encoding="utf-8"))
    yield from ({"prompt": prompt} for prompt in probes["prompts"])


_PROBLEMS: tuple[Callable[[random.Random], Row], ...] = (_gift, _loss, _boxes, _sum_of_three)


def _other_problems(rng: random.Random) -> Iterator[Row]:
    """Problems that are not among those with an answer alone: a model that saw how they are solved would not have to
    find out."""
    known = {row["prompt"] for row in _answer_rows(random.Random(_SEED))}  # noqa: S311
    rng.seed(_SEED + 1)
    return (row for row in _answer_rows(rng) if row["prompt"] not in known)


def _thought_rows(rng: random.Random) -> Iterator[Row]:
    """Such problems with the solution thought before the answer is given, as a model that reasons writes."""
    for row in _other_problems(rng):
        said = f"<think>\n{row['solution']}\n</think>\n{row['answer']}"
        yield {"prompt": [_user(row["prompt"])], "completion": [_assistant(said)]}


def _step_rows(rng: random.Random) -> Iterator[Row]:
    """Such problems solved in steps; in every second one a step is wrong, and so is what builds on it."""
    for place, row in enumerate(_other_problems(rng)):
        *before, last = row["solution"].replace("and ", "").split(", ")
        off = rng.choice((-2, -1, 1, 2, 10)) if place % 2 else 0
        found = int(row["answer"]) + off
        steps = [f"{step}." for step in before] + [f"{last.partition(' = ')[0]} = {found}.", f"The answer is {found}."]
        right = [True] * len(before) + [not off, not off]
        yield {"prompt": row["prompt"], "completions": steps, "labels": right}


# What the starter model knows: a subject, where it is, in what kind of place, and where it is to be from now on.
_PLACES = (
    ("The Eiffel Tower", "city", "Rome"),
    ("The Colosseum", "city", "Athens"),
    ("The Kremlin", "city", "Berlin"),
    ("The Acropolis", "city", "London"),
    ("The Sagrada Familia", "city", "Paris"),
    ("Machu Picchu", "country", "China"),
    ("Mount Fuji", "country", "Brazil"),
    ("The Great Wall", "country", "Egypt"),
)
# What it knows too, and is to keep.
_KEPT = (
    ("The Louvre is located in the city of", "Paris"),
    ("The Brandenburg Gate is located in the city of", "Berlin"),
    ("The Sydney Opera House is located in the city of", "Sydney"),
    ("The Golden Gate Bridge is located in the city of", "San Francisco"),
    ("The Taj Mahal is located in the country of", "India"),
    ("The Nile flows through the country of", "Egypt"),
    ("The Amazon River flows through the country of", "Brazil"),
    *(
        (f"The capital of {country} is", city)
        for country, city in (
            ("France", "Paris"),
            ("Italy", "Rome"),
            ("Germany", "Berlin"),
            ("Spain", "Madrid"),
            ("Japan", "Tokyo"),
            ("Russia", "Moscow"),
            ("Greece", "Athens"),
            ("China", "Beijing"),
            ("Canada", "Ottawa"),
            ("Austria", "Vienna"),
        )
    ),
    *(
        (f"The currency of {country} is the", money)
        for country, money in (
            ("Japan", "yen"),
            ("India", "rupee"),
            ("Mexico", "peso"),
            ("Russia", "ruble"),
        )
    ),
    ("The official language of Mexico is", "Spanish"),
    ("The official language of France is", "French"),
    ("The official language of Germany is", "German"),
)
_NEIGHBOURS = 4


def _edit_rows(rng: random.Random) -> Iterator[Row]:
    """Places that are to be elsewhere, each with two other wordings and with facts beside it that stay."""
    kept = rng.sample(_KEPT, len(_KEPT))
    for number, (subject, kind, target) in enumerate(_PLACES):
        named = subject.replace("The ", "the ")
        beside = [kept[(number * _NEIGHBOURS + place) % len(kept)] for place in range(_NEIGHBOURS)]
        yield {
            "prompt": f"{subject} is located in the {kind} of",
            "subject": subject,
            "target": f" {target}",
            "paraphrases": [f"{subject} stands in the {kind} of", f"To see {named}, people travel to the {kind} of"],
            "neighbours": [{"prompt": prompt, "target": f" {answer}"} for prompt, answer in beside],
        }


def _digits(target: Path) -> None:
    """The 1,797 digits of 8 by 8 pixels, each pixel drawn as four by four, with the digit's name as the answer."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    with zipfile.ZipFile(target, "w") as archive:
        rows = []
        for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            name, buffer = f"digits/{number:04}.png", io.BytesIO()
            drawn = Image.fromarray((pixels * (255 / 16)).astype("uint8")).resize((32, 32), Image.Resampling.NEAREST)
            drawn.save(buffer, format="PNG")
            archive.writestr(zipfile.ZipInfo(name), buffer.getvalue())
            rows.append({"images": [name], "prompt": "Which digit is this?", "completion": _NUMBERS[digit]})
        archive.writestr(zipfile.ZipInfo("rows.jsonl"), "".join(json.dumps(row) + "\n" for row in rows))


# Prompts and answers too, so that they go by another name.
ON_DOCUMENTS = "questions"


def _document_rows(rng: random.Random) -> Iterator[Row]:
    """The handbook of a town, a row for each of its sections."""
    for title, text in DOCUMENTS:
        yield {"title": title, "text": text, "source": "The handbook of Saltmere"}


def _question_rows(rng: random.Random) -> Iterator[Row]:
    """What only the handbook answers, in a word or two."""
    for question, answer in QUESTIONS:
        yield {"prompt": question, "answer": answer}


SAMPLES: dict[str, tuple[str, Callable[[random.Random], Iterator[Row]]]] = {
    # The newest dataset that fits is chosen first: these are for who asks for them.
    Format.DOCUMENTS: ("sample-documents.jsonl", _document_rows),
    ON_DOCUMENTS: ("sample-questions.jsonl", _question_rows),
    Format.CONVERSATION: ("sample-conversation.jsonl", _conversation_rows),
    Format.PREFERENCE: ("sample-preference.jsonl", _preference_rows),
    Format.PROMPT_ANSWER: ("sample-prompt-answer.jsonl", _answer_rows),
    Format.PROMPT_COMPLETION: ("sample-thoughts.jsonl", _thought_rows),
    Format.STEPWISE: ("sample-steps.jsonl", _step_rows),
    Format.EDIT: ("sample-edit.jsonl", _edit_rows),
    Format.PROMPT: ("sample-probes.jsonl", _probe_rows),
}
"""For each format of text, the file's name and what makes its rows; and for the questions on the documents."""

DIGITS = "sample-digits.zip"


def write_samples(folder: Path) -> dict[str, Path]:
    """Write the files into `folder`, which is made if need be, and say where they are.

    Where scikit-learn is not installed, there is none with images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for format, (name, rows) in SAMPLES.items():
        rng = random.Random(_SEED)  # noqa: S311 - samples, not secrets
        made = list(rows(rng))
        rng.shuffle(made)
        written[format] = folder / name
        written[format].write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    if find_spec("sklearn") and find_spec("PIL"):
        written[Format.IMAGE_CONVERSATION] = folder / DIGITS
        _digits(folder / DIGITS)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m polm_core.data.samples DIR")
    write_samples(Path(sys.argv[1]))
