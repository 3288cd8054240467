"""Which format a sample of rows has, with the mapping that follows, how sure that is, and why.

Each format proposes mappings from what the columns hold first and what they are called second; every proposal is then
tried on the sample, and its confidence is scaled by the share of rows that come out right.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence

from pydantic import BaseModel

from polm_core.data.apply import DROPPED_BY_NATURE, apply_mapping
from polm_core.data.labels import known_label
from polm_core.data.mapping import Mapping, MappingOptions
from polm_core.data.names import SYNONYMS, name_score, words_of
from polm_core.data.observe import ColumnFacts, observe
from polm_core.data.problems import RowProblem
from polm_core.data.values import Row, read_path
from polm_core.formats import Format

SURE_ENOUGH = 0.5
"""From this confidence on, a file is prepared without asking."""

_TURNS = ("string", "messages", "message")
_SHORT_ANSWER_WORDS = 6
_SPLIT = re.compile(r"[a-z]+")
_ANSWERS = {"response", "answer", "completion", "output", "reply", "summary", "ref", "conversation"}


class Candidate(BaseModel):
    """A format the rows may have: how sure (0 to 1), why, and the mapping that makes them so."""

    format: Format
    confidence: float
    why: str
    mapping: Mapping


class Miss(BaseModel):
    """A format that the rows almost have. A blocking one keeps the file from being taken for something else."""

    format: Format
    why: str
    remedy: str
    blocking: bool = False


class Detection(BaseModel):
    """All that was found, the likeliest candidate first."""

    candidates: list[Candidate]
    misses: list[Miss]

    def best(self) -> Candidate | None:
        """The candidate to use without asking, if there is one."""
        if self.candidates and self.candidates[0].confidence >= SURE_ENOUGH:
            return None if any(miss.blocking for miss in self.misses) else self.candidates[0]
        return None

    def of_format(self, format: Format) -> Candidate | None:
        """The likeliest candidate of a format, however unlikely."""
        return next((candidate for candidate in self.candidates if candidate.format == format), None)


class Sample:
    """Rows from the head of a file with what their columns hold."""

    def __init__(self, rows: Sequence[Row], columns: dict[str, ColumnFacts]) -> None:
        self.rows = rows
        self.columns = columns

    def best(self, role: str, *kinds: str, without: Collection[str | None] = ()) -> str | None:
        """The column of these kinds whose name fits the role best."""
        fitting = [
            path
            for path, facts in self.columns.items()
            if facts.mostly(*kinds)
            and path not in without
            and name_score(path, role) > 0
            and not self._is_one_of_many(path)
        ]
        return max(fitting, key=lambda path: name_score(path, role), default=None)

    def _is_one_of_many(self, path: str) -> bool:
        """Whether the column is the head of a list that mostly holds more: taken alone, it would drop the others."""
        parts = path.split(".")
        above = (self.columns.get(".".join(parts[:place])) for place, part in enumerate(parts) if part == "0")
        return any(facts.share(facts.several) >= 0.5 for facts in above if facts)

    def of_kind(self, kind: str) -> list[str]:
        return [path for path, facts in self.columns.items() if facts.mostly(kind)]

    def extras(self, *roles: str, without: Collection[str | None]) -> dict[str, str]:
        """Columns for optional roles, by exact name only: a wrong guess would change every row."""
        found = {}
        for role in roles:
            kinds = {
                "tools": ("list", "string"),
                "history": ("list",),
                "system": ("string", "list", "object", "message"),
            }.get(role, ("string",))
            path = self.best(role, *kinds, without=without)
            if path is not None and "_".join(words_of(path)) in SYNONYMS[role]:
                found[role] = path
        return found


def detect(rows: Sequence[Row], columns: dict[str, ColumnFacts] | None = None) -> Detection:
    """What `rows` are. `columns` are the facts about them, if they were already gathered."""
    sample = Sample(rows, observe(rows) if columns is None else columns)
    candidates: list[Candidate] = []
    misses = list(_misses(sample))
    for propose in _PROPOSERS:
        for proposal in propose(sample):
            outcome = _tried(proposal, rows)
            if isinstance(outcome, Miss):
                misses.append(outcome)
            else:
                candidates.append(outcome)
    if not any(one.format == Format.PREFERENCE and one.confidence >= SURE_ENOUGH for one in candidates):
        misses += _unjudged(sample)
    misses.sort(key=lambda miss: not miss.blocking)
    candidates.sort(key=lambda candidate: -candidate.confidence)
    return Detection(candidates=candidates, misses=misses)


def _tried(proposal: Candidate, rows: Sequence[Row]) -> Candidate | Miss:
    usable, problem = 0, None
    for row in rows:
        try:
            apply_mapping(row, proposal.mapping)
            usable += 1
        except RowProblem as found:
            if found.rule in DROPPED_BY_NATURE:
                usable += 1
            problem = problem or found
    if not usable:
        reason = problem.message if problem else "there are no rows"
        return Miss(
            format=proposal.format,
            why=f"{proposal.why}, but no row fits: {reason.rstrip('.')}",
            remedy=problem.advice if problem else "",
        )
    why = proposal.why
    if problem and usable < len(rows):
        why += f"; {len(rows) - usable} of {len(rows)} rows do not fit ({problem.message.rstrip('.')})"
    confidence = round(proposal.confidence * usable / len(rows), 3)
    return proposal.model_copy(update={"confidence": confidence, "why": why})


def _candidate(
    format: Format, confidence: float, why: str, columns: dict[str, str], options: MappingOptions | None = None
) -> Candidate:
    mapping = Mapping(format=format, columns=columns, options=options or MappingOptions())
    return Candidate(format=format, confidence=confidence, why=why, mapping=mapping)


def _pair_columns(sample: Sample) -> tuple[str | None, str | None]:
    return sample.best("chosen", *_TURNS), sample.best("rejected", *_TURNS)


def _twins(sample: Sample) -> tuple[str, str] | None:
    """Two columns that hold two answers to one question, as their names say; None when there are more, or none."""
    texts = {path for path, facts in sample.columns.items() if facts.mostly(*_TURNS)}
    for first in sample.columns:
        second = _twin(first)
        if {first, second} <= texts and _twin(second) not in texts and _ANSWERS & set(_SPLIT.findall(first.lower())):
            return first, second
    return None


def _question_column(sample: Sample, *without: str | None) -> str | None:
    """The column with the prompt: by its name, or messages that end with the user."""
    without = (*without, *(_twins(sample) or ()))
    named = sample.best("prompt", *_TURNS, without=without)
    if named is not None:
        return named
    lists = [path for path in sample.of_kind("messages") if path not in without]
    return next((path for path in lists if not _ends_with_answer(sample.columns[path])), None)


def _ends_with_answer(facts: ColumnFacts) -> bool:
    return facts.share(facts.ends_with_answer) >= 0.5


def _conversation_column(sample: Sample) -> str | None:
    taken = (*_pair_columns(sample), *(_twins(sample) or ()))
    lists = [
        path
        for path in sample.of_kind("messages")
        if path not in taken and _ends_with_answer(sample.columns[path]) and not name_score(path, "completion")
    ]
    return max(lists, key=lambda path: name_score(path, "messages"), default=None)


def _conversations(sample: Sample) -> Iterator[Candidate]:
    column = _conversation_column(sample)
    if column is not None:
        sure = 0.96 if name_score(column, "messages") > 0 else 0.88
        if None not in _pair_columns(sample):
            # The conversation is then the prompt of the pair, or a copy of its better half.
            sure = 0.7
        columns = {"messages": column} | sample.extras("system", "tools", without=[column])
        yield _candidate(Format.CONVERSATION, sure, f"'{column}' holds lists of messages", columns)
        return
    prompt, calls = _question_column(sample), sample.best("calls", "tool calls")
    if prompt is not None and calls is not None:
        columns = {"prompt": prompt, "calls": calls} | sample.extras("system", "tools", without=[prompt, calls])
        why = f"'{prompt}' asks and '{calls}' holds the tool calls that answer"
        yield _candidate(Format.CONVERSATION, 0.95, why, columns)
        return
    transcripts = [path for path in sample.of_kind("string") if _is_transcribed(sample.columns[path])]
    named = sample.best("messages", "questions with answers", "string") or next(iter(transcripts), None)
    if named is not None and named not in _pair_columns(sample):
        facts = sample.columns[named]
        if facts.mostly("questions with answers") or _is_transcribed(facts):
            what = "transcripts" if _is_transcribed(facts) else "lists of questions with their answers"
            columns = {"messages": named} | sample.extras("system", "tools", without=[named])
            yield _candidate(Format.CONVERSATION, 0.93, f"'{named}' holds {what}", columns)
            return
    alternating = sample.best("messages", "list of strings")
    if alternating is not None:
        why = f"'{alternating}' holds lists of texts, taken as user and assistant in turn"
        yield _candidate(Format.CONVERSATION, 0.7, why, {"messages": alternating})


def _is_transcribed(facts: ColumnFacts) -> bool:
    return facts.mostly("string") and facts.share(facts.transcripts) >= 0.9


def _instructions(sample: Sample) -> Iterator[Candidate]:
    """A prompt and a completion in columns of their own: a conversation, or raw text."""
    prompt = _question_column(sample)
    completion = _answer_column(sample, prompt)
    if prompt is None or completion is None:
        return
    extras = sample.extras("input", "history", "system", without=[prompt, completion])
    columns = {"prompt": prompt, "completion": completion}
    why = f"'{prompt}' asks and '{completion}' answers"
    instruct = "instruction" in words_of(prompt) or "history" in extras
    raw = words_of(prompt) == ("prompt",) and words_of(completion) == ("completion",)
    yield _candidate(Format.CONVERSATION, 0.93 if instruct else 0.75, why, columns | extras)
    extras.pop("history", None)
    options = MappingOptions(chat=not raw, strip_prompt=_begin_with(sample, prompt, completion))
    confidence = 0.92 if raw else 0.7 if instruct else 0.82
    yield _candidate(Format.PROMPT_COMPLETION, confidence, why, columns | extras, options)


def _answer_column(sample: Sample, prompt: str | None) -> str | None:
    """The column with the one answer; those with a better, a worse or one of two answers are not it."""
    pair = _pair_columns(sample)
    without = [prompt, *(_twins(sample) or ()), *(pair if None not in pair else ())]
    answer = sample.best("completion", *_TURNS, without=without)
    if answer is None and sample.best("answer", "string", "number", without=without) is None:
        answer = sample.best("solution", "string", without=without)
    return answer


def _begin_with(sample: Sample, prompt: str, *answers: str) -> bool:
    """Whether the texts of `answers` repeat the prompt at their beginning."""
    repeated = 0
    for row in sample.rows:
        asked, *said = (read_path(row, path) for path in (prompt, *answers))
        repeated += isinstance(asked, str) and all(isinstance(text, str) and text.startswith(asked) for text in said)
    return bool(sample.rows) and repeated >= 0.9 * len(sample.rows)


def _preferences(sample: Sample) -> Iterator[Candidate]:
    chosen, rejected = _pair_columns(sample)
    if chosen is None or rejected is None or chosen == rejected:
        yield from _judged_pairs(sample)
        yield from _ordered_pairs(sample)
        return
    columns = {"chosen": chosen, "rejected": rejected}
    sure = 0.75 + 0.22 * min(name_score(chosen, "chosen"), name_score(rejected, "rejected"))
    why = f"'{chosen}' and '{rejected}' hold a better and a worse answer"
    options = MappingOptions()
    prompt = _question_column(sample, chosen, rejected) or _conversation_column(sample)
    if prompt is not None:
        columns |= {"prompt": prompt} | sample.extras("input", without=[prompt, chosen, rejected])
        options.strip_prompt = _begin_with(sample, prompt, chosen, rejected)
        why += f", '{prompt}' the prompt"
    columns |= sample.extras("system", without=columns.values())
    yield _candidate(Format.PREFERENCE, sure, why, columns, options)


def _judged_pairs(sample: Sample) -> Iterator[Candidate]:
    twins = _twins(sample)
    prompt = _question_column(sample)
    winner = sample.best("winner", "string", "number", without=[prompt, *(twins or ())])
    if twins is None or winner is None:
        return
    first, second = twins
    why = f"'{winner}' says which of '{first}' and '{second}' is better"
    columns = {"response_a": first, "response_b": second, "winner": winner}
    whole = all(sample.columns[path].mostly("messages") for path in twins)
    if prompt is not None or whole:
        columns |= {} if whole or prompt is None else {"prompt": prompt}
        yield _candidate(Format.PREFERENCE, 0.97 if whole else 0.9, why, columns)


def _ordered_pairs(sample: Sample) -> Iterator[Candidate]:
    """An instruction with two outputs, the better one first, as LLaMA-Factory writes pairs."""
    output, pair = sample.columns.get("output"), [f"output.{place}" for place in (0, 1)]
    if output is None or "instruction" not in sample.columns or not all(path in sample.columns for path in pair):
        return
    if sample.columns[pair[1]].values >= 0.9 * output.values:
        columns = {"prompt": "instruction", "chosen": pair[0], "rejected": pair[1]}
        columns |= sample.extras("input", "system", without=columns.values())
        why = "'output' holds two answers to each 'instruction', the better one first"
        yield _candidate(Format.PREFERENCE, 0.93, why, columns)


def _twin(path: str) -> str:
    """The name that is counted one further: `response_b` for `response_a`, `answer2` for `answer1`."""
    after = {"a": "b", "A": "B", "0": "1", "1": "2"}.get(path[-1:])
    return path[:-1] + after if after else ""


def _ratings(sample: Sample) -> Iterator[Candidate]:
    label = sample.best("label", "boolean", "number", "string")
    if label is None:
        return
    judged = _judged(sample.columns[label])
    if judged is None:
        return
    confidence, options, how = judged
    conversation = _conversation_column(sample)
    if conversation is not None:
        columns = {"messages": conversation, "label": label}
        why = f"'{label}' rates the conversations in '{conversation}' ({how})"
    else:
        prompt = _question_column(sample, label)
        completion = sample.best("completion", *_TURNS, without=[prompt, label])
        if prompt is None or completion is None:
            return
        columns = {"prompt": prompt, "completion": completion, "label": label}
        columns |= sample.extras("input", without=columns.values())
        why = f"'{label}' rates the answers in '{completion}' ({how})"
        options.strip_prompt = _begin_with(sample, prompt, completion)
    columns |= sample.extras("system", without=columns.values())
    yield _candidate(Format.RATING, confidence + 0.02 * (conversation is not None), why, columns, options)


def _judged(label: ColumnFacts) -> tuple[float, MappingOptions, str] | None:
    """How sure a column is a label, how to read it, and that in words; None when it cannot be one."""
    if all(known_label(value) is not None for value in label.distinct):
        return 0.95, MappingOptions(), "good or bad"
    if not label.mostly("number") and label.share(label.numeric) < 0.9:
        return None
    if label.smallest is None or label.largest is None or label.smallest == label.largest:
        return None
    middle = label.smallest / 2 + label.largest / 2
    rated = bool({"rating", "label", "thumbs", "feedback", "vote"} & set(words_of(label.path)))
    how = f"{label.smallest:g} to {label.largest:g} in the sample, taken as good from {middle:g} on"
    return 0.93 if rated else 0.6, MappingOptions(label_threshold=middle), how


def _verifiable(sample: Sample) -> Iterator[Candidate]:
    """A question with a final answer that can be checked."""
    prompt = _question_column(sample)
    solution = sample.best("solution", "string", without=[prompt])
    answer = sample.best("answer", "string", "number", without=[prompt, solution])
    if prompt is None:
        return
    if answer is None:
        if solution is not None and _marked(sample.columns[solution]) != "none":
            yield _extracted(sample, prompt, solution, 0.93)
        return
    facts = sample.columns[answer]
    if _marked(facts) != "none":
        yield _extracted(sample, prompt, answer, 0.97)
        return
    columns = {"prompt": prompt, "answer": answer}
    columns |= {"solution": solution} if solution else {}
    columns |= sample.extras("system", without=columns.values())
    short = facts.words <= _SHORT_ANSWER_WORDS * facts.values
    why = f"'{prompt}' asks and '{answer}' holds {'short answers' if short else 'answers'}"
    sure = (0.9 if solution or facts.share(facts.numeric) >= 0.8 else 0.86) if short else 0.5
    yield _candidate(Format.PROMPT_ANSWER, sure * name_score(answer, "answer"), why, columns)


def _marked(facts: ColumnFacts) -> str:
    if facts.share(facts.hash_marks) >= 0.8:
        return "hash-marks"
    return "boxed" if facts.share(facts.boxed) >= 0.8 else "none"


def _extracted(sample: Sample, prompt: str, column: str, confidence: float) -> Candidate:
    extractor = _marked(sample.columns[column])
    sign = "####" if extractor == "hash-marks" else "\\boxed{}"
    options = MappingOptions(answer_extractor="hash-marks" if extractor == "hash-marks" else "boxed")
    why = f"'{column}' marks the final answer with {sign}"
    return _candidate(Format.PROMPT_ANSWER, confidence, why, {"prompt": prompt, "answer": column}, options)


def _image_talks(sample: Sample) -> Iterator[Candidate]:
    """Questions about images, with their answers."""
    images = sample.best("images", "string", "list of strings")
    if images is None:
        return
    columns, why = {"images": images}, f"'{images}' names images"
    conversation = _conversation_column(sample)
    if conversation is not None:
        columns |= {"messages": conversation} | sample.extras("system", without=[images, conversation])
        yield _candidate(Format.IMAGE_CONVERSATION, 0.98, f"{why} and '{conversation}' talks about them", columns)
        return
    prompt = _question_column(sample, images)
    completion = _answer_column(sample, prompt) or sample.best("answer", "string", "number", without=[prompt])
    if prompt is not None and completion not in (None, images):
        columns |= {"prompt": prompt, "completion": completion}
        columns |= sample.extras("input", "system", without=columns.values())
        yield _candidate(Format.IMAGE_CONVERSATION, 0.98, f"{why}, '{prompt}' asks and '{completion}' answers", columns)


def _steps(sample: Sample) -> Iterator[Candidate]:
    prompt = _question_column(sample)
    steps = sample.best("completions", "list of strings")
    labels = sample.best("labels", "list of numbers")
    if prompt is not None and steps is not None and labels is not None:
        why = f"'{steps}' holds steps and '{labels}' their labels"
        yield _candidate(Format.STEPWISE, 0.97, why, {"prompt": prompt, "completions": steps, "labels": labels})
    tries = next(iter(sample.of_kind("steps with tries")), None)
    if prompt is not None and tries is not None:
        why = f"'{tries}' holds steps with tries at each and the one chosen"
        yield _candidate(Format.STEPWISE, 0.97, why, {"prompt": prompt, "tries": tries})
    marked = next((path for path, facts in sample.columns.items() if facts.share(facts.step_marks) >= 0.9), None)
    marks = sample.best("label", "string", without=[marked])
    if marked is not None and marks is not None:
        why = f"'{marked}' marks the end of each step and '{marks}' has + or - there"
        yield _candidate(Format.STEPWISE, 0.97, why, {"marked": marked, "marks": marks})


def _edits(sample: Sample) -> Iterator[Candidate]:
    """A prompt with the subject of a fact in it, and another answer than before."""
    subject = sample.best("subject", "string")
    target = _said(sample, "target", subject)
    prompt = _question_column(sample, subject, target)
    if subject is None or target is None or prompt is None:
        return
    columns = {"prompt": prompt, "subject": subject, "target": target}
    columns |= {role: path for role in ("paraphrases", "neighbours") if (path := _listed(sample, role))}
    before = _said(sample, "before", *columns.values())
    columns |= {"before": before} if before else {}
    yield _candidate(Format.EDIT, 0.97, f"'{target}' is a new answer about '{subject}' in '{prompt}'", columns)


def _said(sample: Sample, role: str, *without: str | None) -> str | None:
    """The column with a text of that role, or that with the text in an object of it (`target_new.str`)."""
    within = (path for path in sample.of_kind("string") if path.endswith(".str"))
    nested = next((path for path in within if name_score(path.removesuffix(".str"), role) > 0), None)
    return nested or sample.best(role, "string", without=without)


def _listed(sample: Sample, role: str) -> str | None:
    """The column that is called so, whatever its lists hold."""
    named = (path for path in sample.columns if "_".join(words_of(path)) in SYNONYMS[role])
    return next((path for path in named if not sample.columns[path].mostly("number", "boolean")), None)


def _prompts(sample: Sample) -> Iterator[Candidate]:
    prompt = _question_column(sample)
    if prompt is None:
        return
    answered = _answer_column(sample, prompt) or sample.best("answer", "string", "number", without=[prompt])
    alone = not answered and _pair_columns(sample) == (None, None) and _conversation_column(sample) is None
    columns = {"prompt": prompt} | sample.extras("input", "system", without=[prompt])
    sure = 0.85 * max(name_score(prompt, "prompt"), 0.9) if alone else 0.3
    yield _candidate(Format.PROMPT, sure, f"'{prompt}' holds prompts" + (" alone" if alone else ""), columns)


def _texts(sample: Sample) -> Iterator[Candidate]:
    texts = sample.of_kind("string")
    named = sample.best("text", "string")
    if named is not None:
        yield _candidate(Format.TEXT, 0.9 * name_score(named, "text"), f"'{named}' holds texts", {"text": named})
    elif len(texts) == 1 and len(sample.columns) == 1 and name_score(texts[0], "prompt") == 0:
        yield _candidate(Format.TEXT, 0.6, f"'{texts[0]}' is the only column and holds texts", {"text": texts[0]})


def _documents(sample: Sample) -> Iterator[Candidate]:
    """Texts with a title are documents; without one they may be, if somebody says so."""
    text = sample.best("text", "string")
    if text is None:
        return
    names = sample.extras("title", "source", without=[text])
    titled = "title" in names and len(sample.columns) <= len(names) + 1
    why = f"'{text}' holds texts" + (f" and '{names['title']}' their titles" if "title" in names else "")
    yield _candidate(Format.DOCUMENTS, 0.93 if titled else 0.3, why, {"text": text} | names)


_PROPOSERS: tuple[Callable[[Sample], Iterator[Candidate]], ...] = (
    _image_talks,
    _preferences,
    _steps,
    _edits,
    _ratings,
    _conversations,
    _verifiable,
    _instructions,
    _prompts,
    _texts,
    _documents,
)


def _unjudged(sample: Sample) -> Iterator[Miss]:
    """Several answers to one question with nothing that says which to learn from."""
    twins = _twins(sample)
    if twins is not None:
        yield Miss(
            format=Format.PREFERENCE,
            why=f"'{twins[0]}' and '{twins[1]}' hold two answers, and no column names the better one",
            remedy="Write the better one in a column 'chosen' and the other in 'rejected', or map the columns by hand.",
            blocking=True,
        )
    for path, facts in sample.columns.items():
        rated = any(f"{path}.0.{name}" in sample.columns for name in ("rank", "score", "rating", "overall_score"))
        if any(path.startswith(f"{steps}.") for steps in sample.of_kind("steps with tries")):
            continue
        if rated and facts.share(facts.several) >= 0.5:
            yield Miss(
                format=Format.PREFERENCE,
                why=f"'{path}' holds several answers with ranks or scores in each row",
                remedy="Write a row for each pair, the better answer in 'chosen' and the worse one in 'rejected'.",
                blocking=True,
            )


def _misses(sample: Sample) -> Iterator[Miss]:
    tops = {path.lower() for path in sample.columns}
    if any(isinstance(value, dict) and "replies" in value for row in sample.rows for value in row.values()):
        yield Miss(
            format=Format.CONVERSATION,
            why="Each row is a tree of messages with their replies, not a conversation",
            remedy="Follow each branch from its root and write one row a conversation, with a list in 'messages'.",
            blocking=True,
        )
    if {"parent_id", "role", "text"} <= tops:
        yield Miss(
            format=Format.CONVERSATION,
            why="Each row is a single message that names its parent: a tree, not conversations",
            remedy="Follow each branch from its root and write one row a conversation, with a list in 'messages'.",
            blocking=True,
        )
    for present, absent in (("chosen", "rejected"), ("rejected", "chosen")):
        if present in tops and sample.best(absent, *_TURNS) is None:
            yield Miss(
                format=Format.PREFERENCE,
                why=f"There is a column '{present}' but none with the {absent} answers",
                remedy=f"Add a column '{absent}', or map the columns to another format by hand.",
                blocking=True,
            )
