"""Rewards of texts and of their steps, in one batch."""

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


def padded(sequences: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """The sequences as one batch, padded on the right, and the mask of what is theirs: both (rows, longest)."""
    import torch

    ids = torch.full((len(sequences), max(map(len, sequences))), pad)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=ids.dtype)
        mask[row, : len(tokens)] = 1
    return ids.to(device), mask.to(device)
