"""Rewards of texts, in one batch."""

from collections.abc import Sequence
from typing import Any


def score(model: Any, tokenizer: Any, sequences: Sequence[Sequence[int]]) -> list[float]:
    """The reward of each sequence of tokens, by a model that `load_reward_model` brought or that is being trained."""
    import torch

    longest = max(len(tokens) for tokens in sequences)
    ids = torch.full((len(sequences), longest), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    with torch.no_grad():
        rewards = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    return [float(reward) for reward in rewards.squeeze(-1).float()]
