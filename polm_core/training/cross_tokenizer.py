"""Learning from a teacher that reads other tokens: both models read the same text, each in its own tokens.

Where tokens of both end at the same place of the text, what the models make of it is compared, by trl's universal logit
distillation (arXiv 2402.12030, with what GOLD adds to it). trl's own GOLD trainer is not used: it evaluates no held-out
rows by that distance, and has the teacher read the student's chat turns.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from trl.experimental.gold.gold_trainer import GOLDConfig, ULDLoss

from polm_core.formats import Format
from polm_core.training.distilling import DistillationTrainer, last_answer
from polm_core.training.encoding import as_messages, encode_rows, render_chat
from polm_core.training.rows import Row
from polm_core.training.scoring import padded

_IGNORED = -100


class Sides(NamedTuple):
    """A batch as both models read it: tokens, labels (-100 where nothing is compared) and where in the answer's text
    each token ends, all of the shape (rows, tokens) and padded on the right; of ends the last dimension is a span."""

    tokens: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    ends: torch.Tensor


class Translator:
    """Gives the teacher what it reads in place of the student's tokens."""

    def __init__(self, student: Any, teacher: Any, rows: Sequence[Row], limit: int, ends: Sequence[int]) -> None:
        """Of both tokenizers, for rows with a `prompt` and a `completion` of which the student reads `limit` tokens;
        `ends` are those by which it ends an answer."""
        self.student = student
        self.teacher = teacher
        self.ends = frozenset(ends)
        # The teacher's own chat template has the prompt, which the student's tokens stand for here.
        self.prompts = {}
        encoded = encode_rows(student, rows, Format.PROMPT_COMPLETION, "answers")
        for row, own in zip(rows, encoded, strict=True):
            trained = torch.tensor(own.trained[:limit], dtype=torch.bool)
            if trained.any():
                self.prompts[tuple(own.input_ids[: last_answer(trained)])] = _prompt_tokens(teacher, row)

    def both(self, tokens: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> tuple[Sides, Sides]:
        """The student's batch, of which the last answer of each row is compared, and the teacher's."""
        own, theirs = [], []
        for ids, trained in zip(tokens.tolist(), labels != _IGNORED, strict=True):
            start = last_answer(trained)
            answer = [token for token, on in zip(ids[start:], trained[start:].tolist(), strict=True) if on]
            ended = bool(answer) and answer[-1] in self.ends
            said = answer[:-1] if ended else answer
            text = self.student.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            read = self.teacher(text, add_special_tokens=False)["input_ids"]
            own.append((ids[:start], answer, _places(self.student, said, ended)))
            ending = [self.teacher.eos_token_id] if ended else []
            theirs.append((self.prompts[tuple(ids[:start])], read + ending, _places(self.teacher, read, ended)))
        student = _sides(own, self.student.pad_token_id, tokens.device)
        width = student.tokens.shape[1]
        return (
            student._replace(tokens=tokens[:, :width], mask=mask[:, :width]),
            _sides(theirs, self.teacher.pad_token_id, tokens.device),
        )


class CrossTokenizerTrainer(DistillationTrainer):
    """Learns by the distance of universal logit distillation, and from what rows say by the weight `imitation`."""

    translator: Translator
    distance: ULDLoss
    imitation: float

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens, mask, labels = (inputs[name] for name in ("input_ids", "attention_mask", "labels"))
        student, teacher = self.translator.both(tokens, mask, labels)
        said = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits.float()
        with torch.no_grad():
            heard = self.teacher(input_ids=teacher.tokens, attention_mask=teacher.mask, use_cache=False).logits.float()
        distance = self.distance(
            said[:, : student.tokens.shape[1]],
            heard,
            student.labels,
            teacher.labels,
            student.tokens,
            teacher.tokens,
            student_byte_offsets=student.ends,
            teacher_byte_offsets=teacher.ends,
        )
        self.count("teacher_uld", distance)
        loss = distance
        if not model.training or self.imitation:
            imitated = cross_entropy(said[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED)
            loss = distance + self.imitation * imitated if model.training else imitated
        return (loss, {}) if return_outputs else loss


def distance(args: GOLDConfig, student: Any, teacher: Any, *, shared: bool) -> ULDLoss:
    """The distance of universal logit distillation between models with these tokenizers. With `shared`, tokens that are
    spelled alike are compared with each other."""
    # Its other way to merge tokens reads the odds of a token one place too late.
    args.uld_token_merge_strategy = "bayesian"  # noqa: S105 - tokens of text
    args.uld_use_hybrid_loss = shared and not student.get_vocab().keys().isdisjoint(teacher.get_vocab())
    # Both answers have an end here, or neither.
    args.uld_skip_student_eos = args.uld_skip_teacher_eos = False
    return ULDLoss(args, student, teacher, device=args.device)


def _prompt_tokens(teacher: Any, row: Row) -> list[int]:
    prompt = row["prompt"]
    if isinstance(prompt, str) and isinstance(row["completion"], str):
        plain: list[int] = teacher(prompt)["input_ids"]
        # It has to read something to go on from.
        return plain or [teacher.eos_token_id]
    text = render_chat(teacher, as_messages(prompt, "user"), add_generation_prompt=True)
    turns: list[int] = teacher(text, add_special_tokens=False)["input_ids"]
    return turns


def _places(tokenizer: Any, tokens: Sequence[int], ended: bool) -> list[int]:
    """Where in the text each token ends; a part of a character ends where the character before does. The token that
    ends an answer takes no place."""
    texts = [
        tokenizer.decode(tokens[: count + 1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for count in range(len(tokens))
    ]
    places = [len(text.rstrip("\N{REPLACEMENT CHARACTER}")) for text in texts]
    return places + ([places[-1] if places else 0] if ended else [])


def _sides(rows: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]], pad: int, device: torch.device) -> Sides:
    """Rows of a prompt's tokens, an answer's, and the places where the latter end."""
    tokens, mask = padded([[*prompt, *answer] for prompt, answer, _ in rows], pad, device)
    labels = torch.full_like(tokens, _IGNORED)
    ends = torch.zeros((*tokens.shape, 2), dtype=torch.long, device=device)
    for row, (prompt, answer, places) in enumerate(rows):
        span = slice(len(prompt), len(prompt) + len(answer))
        labels[row, span] = tokens[row, span]
        ends[row, span, 1] = torch.tensor(places, dtype=torch.long, device=device)
    return Sides(tokens, mask, labels, ends)
