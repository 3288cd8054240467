"""What a column's name says about the role it plays."""

import re
from functools import lru_cache

from polm_core.data.mapping import roles_of
from polm_core.formats import Format

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[^a-z0-9]+")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "messages": (
        "messages",
        "conversations",
        "conversation",
        "dialog",
        "dialogue",
        "chat",
        "turns",
        "history",
        "contents",
        "transcript",
    ),
    "images": ("images", "image", "image_path", "image_paths", "image_file", "img", "picture", "pictures", "photo"),
    "tools": ("tools", "functions"),
    "system": ("system", "system_prompt", "system_message", "system_instruction", "instructions"),
    "prompt": (
        "prompt",
        "instruction",
        "question",
        "query",
        "problem",
        "input",
        "inputs",
        "request",
        "task",
        "user",
        "human",
        "q",
        "x",
    ),
    "input": ("input", "context"),
    "history": ("history",),
    "completion": (
        "completion",
        "response",
        "output",
        "answer",
        "reply",
        "target",
        "targets",
        "assistant",
        "gpt",
        "generation",
        "a",
    ),
    "text": ("text", "content", "body", "document", "article", "passage", "story", "paragraph"),
    "chosen": (
        "chosen",
        "preferred",
        "accepted",
        "winning",
        "win",
        "better",
        "best",
        "good",
        "positive",
        "pos",
        "response_j",
        "y_w",
    ),
    "rejected": (
        "rejected",
        "dispreferred",
        "losing",
        "lose",
        "worse",
        "worst",
        "bad",
        "negative",
        "neg",
        "reject",
        "non_preferred",
        "not_preferred",
        "response_k",
        "y_l",
    ),
    "response_a": ("response_a", "answer_a", "completion_a", "output_a"),
    "response_b": ("response_b", "answer_b", "completion_b", "output_b"),
    "winner": (
        "winner",
        "preference",
        "better",
        "best",
        "preferred",
        "choice",
        "better_response_id",
        "overall_preference",
    ),
    "label": (
        "label",
        "thumbs",
        "thumb",
        "rating",
        "feedback",
        "vote",
        "kto_tag",
        "liked",
        "score",
        "reward",
        "quality",
        "helpfulness",
        "overall_score",
    ),
    "answer": (
        "answer",
        "final_answer",
        "expected_answer",
        "ground_truth",
        "reference_answer",
        "correct_answer",
        "gold_answer",
        "ground_truth_answer",
        "gold",
        "target",
        "reference",
        "result",
    ),
    "solution": ("solution", "rationale", "reasoning", "explanation", "worked_solution", "cot"),
    "completions": ("completions", "steps"),
    "labels": ("labels", "ratings", "step_labels"),
    "calls": ("tool_calls", "function_calls", "calls", "answers"),
    "tries": ("tries",),
    "marked": ("marked",),
    "marks": ("marks",),
    "subject": ("subject", "entity"),
    "target": ("target", "target_new", "new_target", "alt", "new_answer", "object"),
    "paraphrases": ("paraphrases", "paraphrase_prompts", "rephrase", "rephrased", "rephrase_prompt"),
    "neighbours": ("neighbours", "neighbors", "neighborhood_prompts", "neighbourhood_prompts", "neighborhood"),
    "before": ("before", "target_true", "old_target", "old_answer", "ground_truth"),
    "title": ("title", "heading", "headline", "subject"),
    "source": ("source", "url", "path", "file", "filename", "link"),
}
"""Usual names of a role's column, the most telling first."""

_MEASURES = {"score", "scores", "rating", "ratings", "avg", "count", "length", "tokens"}
_ATTRIBUTES = {"model", "id", "ids", "name", "source", "type", "url", "lang", "date"}


@lru_cache(maxsize=20_000)
def words_of(path: str) -> tuple[str, ...]:
    """The words of a path's last part in lower case: `data.finalAnswer` is `final`, `answer`."""
    last = path.rpartition(".")[2] or path
    return tuple(word for word in _SEPARATORS.split(_CAMEL.sub("_", last).lower()) if word)


@lru_cache(maxsize=20_000)
def name_score(path: str, role: str) -> float:
    """How well a column's name fits a role: 1 for the first of its synonyms, 0 for no likeness."""
    words = words_of(path)
    joined = "_".join(words)
    nested = 0.02 * path.count(".")
    synonyms = SYNONYMS[role]
    if joined in synonyms:
        return 1 - 0.02 * synonyms.index(joined) - nested
    if role == "chosen" and {"non", "not"} & set(words):
        return 0
    # "score_chosen" and "chosen_model" are about the chosen answer, but are not it.
    if set(words) & _MEASURES or _ATTRIBUTES.intersection(words[-1:]):
        return 0
    ranks = [rank for rank, name in enumerate(synonyms) if len(name) > 1 and f"_{name}_" in f"_{joined}_"]
    return 0.7 - 0.01 * ranks[0] - nested if ranks else 0


def suggest(columns: list[str], format: Format) -> dict[str, str]:
    """By their names alone, the column that most likely plays each role of `format`; roles without one are left out."""
    found: dict[str, str] = {}
    for role in roles_of(format):
        free = [column for column in columns if column not in found.values()]
        best = max(free, key=lambda column: name_score(column, role), default=None)
        if best is not None and name_score(best, role) > 0:
            found[role] = best
    return found
