"""What a model makes of texts, in one batch: rewards, the odds of their steps, losses."""

from collections.abc import Sequence
from typing import Any

from polm_core.training.encoding import Encoded


def score(model: Any, tokenizer: Any, sequences: Sequence[Sequence[int]]) -> list[float]:
    """The reward of each sequence of tokens, by a model that `load_reward_model` brought or that is being trained."""
    rewards = _logits(model, tokenizer, sequences)
    return [float(reward) for reward in rewards.squeeze(-1)]


def judge_steps(model: Any, tokenizer: Any, sequences: Sequence[Encoded]) -> list[list[float]]:
    """How likely each step is right, from 0 to 1: a list for each sequence of `encode_steps`, cut or not."""
    odds = _logits(model, tokenizer, [item.input_ids for item in sequences]).softmax(-1)[..., 1]
    return [
        [float(odds[row, place]) for place, ends in enumerate(item.trained) if ends]
        for row, item in enumerate(sequences)
    ]


def _logits(model: Any, tokenizer: Any, sequences: Sequence[Sequence[int]]) -> Any:
    """What the model's head says of each sequence, padded on the right; fp32."""
    import torch

    ids, mask = padded(sequences, tokenizer.pad_token_id, model.device)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits.float()


def mean_losses(model: Any, rows: Sequence[tuple[list[int], list[bool]]]) -> list[float | None]:
    """The mean loss of the trained tokens of each row, which are predicted from what stands before them; nats.

    None for a row without any.
    """
    import torch
    from torch.nn.functional import cross_entropy

    longest = max((len(ids) for ids, _ in rows), default=0)
    if longest < 2:
        return [None] * len(rows)
    ids, there = padded([ids for ids, _ in rows], 0, model.device)
    marks = torch.tensor([[*on, *[False] * (longest - len(on))] for _, on in rows], device=model.device)[:, 1:]
    with torch.no_grad():
        # Virtual tokens stand in front of the text, and have logits too.
        logits = model(input_ids=ids, attention_mask=there, use_cache=False).logits[:, -longest:-1]
        losses = torch.zeros(marks.shape, device=model.device)
        losses[marks] = cross_entropy(logits[marks].float(), ids[:, 1:][marks], reduction="none")
    counts = marks.sum(1)
    means = (losses.sum(1) / counts.clamp(min=1)).tolist()
    return [mean if count else None for mean, count in zip(means, counts.tolist(), strict=True)]


def padded(sequences: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """The sequences as one batch, padded on the right, and the mask of what is theirs: both (rows, longest)."""
    import torch

    ids = torch.full((len(sequences), max(map(len, sequences))), pad)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=ids.dtype)
        mask[row, : len(tokens)] = 1
    return ids.to(device), mask.to(device)
