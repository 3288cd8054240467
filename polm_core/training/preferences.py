"""Rows that tell better answers from worse: which of them can be used, and how trainers are given them."""

import copy
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from polm_core.blocks import SPLITTING, TrainConfig
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.training.encoding import Encoded, as_pairs, as_ratings, encode_pairs, encode_ratings, plain_text
from polm_core.training.rows import Row

logger = logging.getLogger(__name__)

EQUAL = "two equal answers"
EMPTY = "an empty answer"


def fault(row: Row) -> str | None:
    """Why nothing can be learned from a preference or a rating: its answers are equal, or one is empty."""
    if "chosen" in row and row["chosen"] == row["rejected"]:
        return EQUAL
    answers = [row[column] for column in ("chosen", "rejected", "completion") if column in row]
    return None if all(plain_text(answer).strip() for answer in answers) else EMPTY


def usable(rows: Sequence[Row]) -> list[Row]:
    """The rows that something can be learned from; how many are left out is told."""
    faults = [fault(row) for row in rows]
    for reason, count in Counter(reason for reason in faults if reason is not None).items():
        logger.warning("%d of %d rows have %s and are left out.", count, len(rows), reason)
    return [row for row, reason in zip(rows, faults, strict=True) if reason is None]


def needed(rows: Sequence[Row]) -> list[Row]:
    """The usable rows to train on. Raises `DataError` when there are none."""
    left = usable(rows)
    if not left:
        raise DataError(
            "Every row has two equal answers or an empty one, so there is nothing to tell apart.",
            code="data.untrained",
            advice="Give each prompt an answer that is better and one that is worse.",
        )
    return left


def needed_ratings(rows: Sequence[Row]) -> list[Row]:
    """The usable ratings to train on. Raises `DataError` when there are none, or all say the same."""
    left = needed(rows)
    labels = {bool(row["label"]) for row in left}
    if len(labels) == 1:
        raise DataError(
            f"Every answer is rated {'good' if True in labels else 'bad'}, so there is nothing to tell apart.",
            code="data.one_label",
            advice="Add answers that are rated the other way, or fine-tune on the good ones.",
        )
    return left


def shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows in an order of chance. Trainers on ratings keep the order they are given, and each batch needs both
    good and bad answers, of different prompts."""
    order = list(rows)
    random.Random(seed).shuffle(order)  # noqa: S311
    return order


def pair_columns(tokenizer: Any, pairs: Sequence[Row], limit: int) -> list[dict[str, Any]]:
    """Each pair (as `as_pairs` gives them) as `chosen_*` and `rejected_*` tokens, cut to `limit`.

    Pairs of which no answer is left on one side are left out, and that is told.
    """
    kept = [
        _columns("chosen", chosen, limit) | _columns("rejected", rejected, limit)
        for chosen, rejected in encode_pairs(tokenizer, pairs)
        if any(chosen.trained[:limit]) and any(rejected.trained[:limit])
    ]
    _tell_left_out(len(pairs) - len(kept), len(pairs), limit)
    return kept


def rating_columns(tokenizer: Any, rows: Sequence[Row], limit: int) -> list[dict[str, Any]]:
    """Each rating (as `as_ratings` gives them) as `completion_*` tokens, cut to `limit`, with its `label`."""
    kept = [
        {"label": bool(row["label"]), **_columns("completion", encoded, limit)}
        for row, (encoded,) in zip(rows, encode_ratings(tokenizer, rows), strict=True)
        if any(encoded.trained[:limit])
    ]
    _tell_left_out(len(rows) - len(kept), len(rows), limit)
    return kept


def _columns(side: str, encoded: Encoded, limit: int) -> dict[str, list[int]]:
    tokens, trained = encoded.input_ids[:limit], encoded.trained[:limit]
    return {
        f"{side}_input_ids": tokens,
        f"{side}_attention_mask": [1] * len(tokens),
        f"{side}_labels": [token if on else -100 for token, on in zip(tokens, trained, strict=True)],
    }


def _tell_left_out(count: int, total: int, limit: int) -> None:
    if count:
        logger.warning("%d of %d rows have too long a prompt for %d tokens and are left out.", count, total, limit)


def no_room(limit: int) -> DataError:
    return DataError(
        f"Every prompt is {limit} tokens or longer, so no answer is left to train on.",
        code="data.untrained",
        advice="Raise max_length.",
    )


def hand_over(trainer: Any, train_set: list[dict[str, Any]], eval_set: list[dict[str, Any]], *, limit: int) -> None:
    """Give a trainer rows that are tokens already, cut to `limit`. Raises `DataError` when there are none to train on.

    trl's experimental trainers take text alone, cut it by a rule that can keep more than the longest length, and add
    a second end token after the template's own. They are built on one row, and then get these.
    """
    from datasets import Dataset

    if not train_set:
        raise no_room(limit)
    trainer.train_dataset = Dataset.from_list(train_set)
    trainer.eval_dataset = Dataset.from_list(eval_set) if eval_set else None
    trainer.data_collator = _counted(trainer.data_collator)


def _counted(collate: Any) -> Any:
    """A collator whose batches also hold what the trainer counts tokens by."""

    def collate_counted(features: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        batch: dict[str, Any] = collate(features)
        masks = [value.flatten() for key, value in batch.items() if key.endswith("_attention_mask")]
        batch["input_ids"] = batch["attention_mask"] = torch.cat(masks)
        return batch

    return collate_counted


def reference(model: Any, adapter: Any, config: TrainConfig) -> Any:
    """What the trained model is compared with: a copy of it, or None where taking the adapter away gives it back."""
    if config.adapter.trains_whole_model or config.adapter.type in SPLITTING:
        return copy.deepcopy(model)
    # An adapter that the run goes on from is part of the reference. trl keeps a second one of lora and its kin.
    return None if adapter is not None or _is_lora(model) else copy.deepcopy(model)


def _is_lora(model: Any) -> bool:
    return bool(model.active_peft_config.peft_type.value == "LORA")


def encoded_rows(tokenizer: Any, rows: Sequence[Row], format_: Format, *, wrap: bool) -> Iterator[tuple[Encoded, ...]]:
    """The sequences of each preference (chosen and rejected) or rating, uncut."""
    if format_ is Format.PREFERENCE:
        return encode_pairs(tokenizer, as_pairs(rows, wrap=wrap))
    return encode_ratings(tokenizer, as_ratings(rows, wrap=wrap))
