"""Learning from pairs of answers to the same prompt, the second of which another model may have written.

The answers, their rewards, the reference and the evaluation are those of `polm_core.training.online`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch.nn import functional
from transformers import LogitsProcessor, LogitsProcessorList
from trl import RLOOConfig
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import pad, use_adapter

from polm_core.context import RunContext
from polm_core.methods.alignment.pairs import FORMATS, PairsConfig
from polm_core.training.loop import train
from polm_core.training.online import OnlineTrainer, masked_mean, online_trainer
from polm_core.training.rollouts import online_arguments
from polm_core.training.rows import Row
from polm_core.training.setup import read_prompts

Tokens = list[list[int]]


class Pairs(NamedTuple):
    """Answers in pairs: how likely each is to the model in training and to its reference (the logarithm, over all its
    tokens), and its reward, NaN where none was given. All are of the shape (pairs, 2); where only the first answers are
    learned from, `logps` is (pairs, 1)."""

    logps: torch.Tensor
    reference: torch.Tensor
    rewards: torch.Tensor

    @property
    def gap(self) -> torch.Tensor:
        """How much more the first answer earned; 0 when one of the two was not judged."""
        return (self.rewards[:, 0] - self.rewards[:, 1]).nan_to_num()

    @property
    def margin(self) -> torch.Tensor:
        """How much more the model favours the first answer over the second than its reference does."""
        drift = self.logps - self.reference
        return drift[:, 0] - drift[:, 1]


Loss = Callable[[Pairs], torch.Tensor]
Writer = Callable[["PairsTrainer", Tokens], Tokens]


class PairsTrainer(OnlineTrainer):
    """Learns by `loss` from each answer and the next.

    With `other`, every second answer is written by that; with `learns_from_both` off, only the first of two is read
    again and learned from. These are set once the trainer is built.
    """

    loss: Loss
    other: Writer | None = None
    learns_from_both = True

    def _generate_single_turn(self, prompt_ids: Tokens, images: Any, fields: Any) -> Tokens:
        if self.other is None:
            return super()._generate_single_turn(prompt_ids, images, fields)
        own = super()._generate_single_turn(prompt_ids[::2], images, fields)
        others = self.other(self, prompt_ids[1::2])
        return [answer for pair in zip(own, others, strict=True) for answer in pair]

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        mask, known = output["completion_mask"], output["reference_logps"]
        # An answer that was cut off, where those are not learned from, has no token left.
        rewards = output["rewards"].masked_fill(mask.sum(1) == 0, torch.nan).view(-1, 2)
        pairs = Pairs((output["old_logps"] * mask).sum(1).view(-1, 2), (known * mask).sum(1).view(-1, 2), rewards)
        self.write_advantages(torch.stack([pairs.gap, -pairs.gap], dim=1).flatten())
        self.count("pairs/tied", pairs.gap == 0)
        notes = self._metrics["train" if self.model.training else "eval"]
        # The trainer looks for groups whose rewards are the same after the distance was taken off them.
        del notes["frac_reward_zero_std"]
        if self.other is not None:
            self.count("rewards/probabilities", torch.sigmoid(pairs.gap))
            notes["kl"].pop()
            self.count("kl", masked_mean(((output["old_logps"] - known) * mask)[::2], mask[::2]))
            self._tell_of_own_alone(notes)
        return {
            "prompt_ids": output["prompt_ids"][::2],
            "prompt_mask": output["prompt_mask"][::2],
            "completion_ids": output["completion_ids"].unflatten(0, (-1, 2)),
            "completion_mask": mask.unflatten(0, (-1, 2)),
            "reference": pairs.reference,
            "rewards": rewards,
        }

    def _tell_of_own_alone(self, notes: dict[str, list[float]]) -> None:
        """Log the rewards of the model's own answers, not of those they are held against."""
        own = self.parts[::2]
        columns = {f"rewards/{name}/": own[:, index] for index, name in enumerate(self.reward_func_names)}
        for key, values in columns.items():
            notes[f"{key}mean"][-1], notes[f"{key}std"][-1] = _mean_and_spread(values)
        notes["reward"][-1], notes["reward_std"][-1] = _mean_and_spread(self.weighted(own))

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        sides = 2 if self.learns_from_both else 1
        answers = inputs["completion_ids"][:, :sides].flatten(0, 1)
        mask = inputs["completion_mask"][:, :sides].flatten(0, 1)
        ids = torch.cat([inputs["prompt_ids"].repeat_interleave(sides, 0), answers], dim=1)
        attention = torch.cat([inputs["prompt_mask"].repeat_interleave(sides, 0), mask], dim=1)
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, attention, answers.shape[1], compute_entropy=True
        )
        pairs = Pairs((logps * mask).sum(1).view(-1, sides), inputs["reference"], inputs["rewards"])
        self.count("entropy", masked_mean(entropies, mask))
        if self.learns_from_both:
            better = pairs.gap.sign()
            # NaN, which is not logged, when no answer is better than the other.
            self.count("rewards/margins", self.beta * (better * pairs.margin).sum() / better.abs().sum())
            self.count("rewards/accuracies", (better * pairs.margin > 0).sum() / better.abs().sum())
        return self.loss(pairs).mean()

    def write(self, model: Any, prompts: torch.Tensor, mask: torch.Tensor, **more: Any) -> Tokens:
        """An answer to each prompt, as the trainer itself has them written, by a model of choice."""
        with (
            unwrap_model_for_generation(model, self.accelerator, generation_kwargs=self.generation_kwargs) as writer,
            torch.no_grad(),
        ):
            output = writer.generate(
                input_ids=prompts, attention_mask=mask, generation_config=self.generation_config, **more
            )
        end = self._tokenizer.eos_token_id
        answers: Tokens = output[:, prompts.shape[1] :].tolist()
        return [answer[: answer.index(end) + 1] if end in answer else answer for answer in answers]

    def padded(self, prompt_ids: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts as one tensor, and which of it they are."""
        rows = [torch.tensor(ids) for ids in prompt_ids]
        ids = pad(rows, padding_value=self._tokenizer.pad_token_id, padding_side="left")
        mask = pad([torch.ones_like(row) for row in rows], padding_value=0, padding_side="left")
        return ids.to(self.accelerator.device), mask.to(self.accelerator.device)

    @contextmanager
    def reference_model(self) -> Iterator[Any]:
        """What the model in training is held to: a model of its own, or the same one without its adapter."""
        if self.ref_model is not None:
            yield self.accelerator.unwrap_model(self.ref_model)
            return
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, "ref" if "ref" in model.peft_config else None):
            yield model


def by_reference(trainer: PairsTrainer, prompt_ids: Tokens) -> Tokens:
    """Answers of the reference."""
    with trainer.reference_model() as model:
        return trainer.write(model, *trainer.padded(prompt_ids))


def by_mixture(share: float) -> Writer:
    """Answers of the geometric mixture of the model and its reference, which has this `share` in it."""

    def write(trainer: PairsTrainer, prompt_ids: Tokens) -> Tokens:
        prompts, mask = trainer.padded(prompt_ids)
        mixture = LogitsProcessorList([Mixture(trainer, mask, share)])
        return trainer.write(trainer.model_wrapped, prompts, mask, logits_processor=mixture)

    return write


class Mixture(LogitsProcessor):
    """Mixes the reference's next token into that of the model that writes."""

    def __init__(self, trainer: PairsTrainer, mask: torch.Tensor, share: float) -> None:
        self.trainer = trainer
        self.mask = mask
        self.share = share
        self.read: Any = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        written = input_ids.shape[1] - self.mask.shape[1]
        with self.trainer.reference_model() as model:
            output = model(
                input_ids=input_ids if self.read is None else input_ids[:, -1:],
                attention_mask=functional.pad(self.mask, (0, written), value=1),
                past_key_values=self.read,
                use_cache=True,
            )
        self.read = output.past_key_values
        return (1 - self.share) * scores + self.share * output.logits[:, -1].to(scores.dtype)


def preference_loss(pairs: Pairs, beta: float, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid") -> torch.Tensor:
    """DPO's loss, IPO's or SLiC's on the better of each two answers; 0 where neither is."""
    better = pairs.gap.sign()
    margin = better * pairs.margin
    match kind:
        case "sigmoid":
            loss = -functional.logsigmoid(beta * margin)
        case "ipo":
            loss = (margin - 1 / (2 * beta)).square()
        case "hinge":
            loss = functional.relu(1 - beta * margin)
    return loss * better.abs()


def train_on_pairs(
    config: PairsConfig,
    context: RunContext,
    loss: Loss,
    *,
    other: Writer | None = None,
    learns_from_both: bool = True,
) -> dict[str, float]:
    """Train by `loss` and return the final metrics; for `other` and `learns_from_both` see `PairsTrainer`."""
    prompts = read_prompts(config, context, FORMATS)
    arguments = RLOOConfig(**online_arguments(config, context.run_dir), beta=0.0)
    trainer = online_trainer(PairsTrainer, config, context, prompts, arguments, beta=config.beta)
    trainer.loss, trainer.other, trainer.learns_from_both = loss, other, learns_from_both
    return train(trainer, context, config, prompts.split)


def _mean_and_spread(values: torch.Tensor) -> tuple[float, float]:
    """Of the values that are numbers."""
    judged = values[~values.isnan()]
    return judged.mean().item(), judged.std().item() if len(judged) > 1 else 0.0
