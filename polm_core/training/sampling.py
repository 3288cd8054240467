"""Answers to prompts, in one batch, and those to held-out prompts as a run goes on."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from polm_core.blocks import GenerationConfig, RunConfig
from polm_core.context import RunContext
from polm_core.rewards.config import PromptedConfig
from polm_core.training.encoding import Messages, as_asked, plain_text, prompt_of, render_chat, task_of
from polm_core.training.rows import Split

# What the seeds of two rounds, or of two turns in a conversation, differ by: no batch is drawn by another's chances.
APART = 1_000_003
# How fast answers are written, whoever writes them: tokens a second.
GENERATED = "system/generated_tokens_per_second"

WriteSamples = Callable[[Any, Any, int], None]
"""Writes samples of what a model does, given it, its tokenizer and the step."""


def answering(context: RunContext, config: RunConfig, split: Split) -> WriteSamples | None:
    """Has the model answer the prompts of the first held-out rows; None when there are none to answer."""
    settings: GenerationConfig | None = getattr(config, "generation", None)
    if settings is None:
        return None
    rows = split.held_out[: settings.samples]
    prompts = [prompt_of(row, split.format) for row in rows]
    if not prompts:
        return None

    def write(model: Any, tokenizer: Any, step: int) -> None:
        texts = render_prompts(tokenizer, [prompt for prompt, _ in prompts])
        answers = generate(model, tokenizer, texts, settings, longest=config.max_length, seed=config.seed + step)
        for index, ((prompt, reference), answer) in enumerate(zip(prompts, answers, strict=True)):
            more = {**as_asked(prompt), **task_of(rows[index])}
            context.log_sample(step, plain_text(prompt), answer, reference=reference, row=index, **more)

    return write


class Pace:
    """How fast answers are written: their tokens, ends included, and the seconds that they took."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The speed; nothing while nothing is written."""
        return {GENERATED: self.tokens / self.seconds} if self.seconds else {}


def answers_to(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str | Messages],
    config: PromptedConfig,
    *,
    sampled: bool,
    seed: int,
    pace: Pace | None = None,
) -> list[str]:
    """An answer to each prompt, none of which is cut: as long as in training and, when `sampled`, drawn as there."""
    drawn = {"temperature": config.temperature, "top_p": config.top_p} if sampled else {}
    options = {"max_new_tokens": config.max_completion_length, "do_sample": sampled, **drawn}
    texts = render_prompts(tokenizer, prompts)
    answers: list[str] = []
    for start in range(0, len(texts), config.answers_at_once):
        answers += generate(
            model,
            tokenizer,
            texts[start : start + config.answers_at_once],
            GenerationConfig().model_copy(update=options),
            longest=sys.maxsize,
            seed=seed + start,
            pace=pace,
        )
    return answers


def render_prompts(tokenizer: Any, prompts: Sequence[str | Messages]) -> list[str]:
    """Each prompt as the text that the model goes on from; plain strings stay as they are."""
    return [
        prompt if isinstance(prompt, str) else render_chat(tokenizer, prompt, add_generation_prompt=True)
        for prompt in prompts
    ]


def generate(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    config: GenerationConfig,
    *,
    longest: int,
    seed: int,
    pace: Pace | None = None,
) -> list[str]:
    """One answer to each text, without special tokens. Of a text over `longest` tokens the beginning is cut off.

    What is written, and how long it takes, is added to `pace`. The random state of training is put back afterwards, so
    that generating changes nothing about the run.
    """
    import torch

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        batch = _left_padded(tokenizer, texts, longest).to(model.device)
        began = time.perf_counter()
        output = model.generate(**batch, generation_config=generation_options(model, tokenizer, config))
    written = output[:, batch["input_ids"].shape[1] :]
    answers: list[str] = tokenizer.batch_decode(written, skip_special_tokens=True)
    if pace is not None:
        pace.tokens += _count_written(written, end_tokens(model, tokenizer))
        pace.seconds += time.perf_counter() - began
    return answers


def _count_written(written: Any, ends: Sequence[int]) -> int:
    """The tokens up to the first end of each answer; what follows is padding."""
    import torch

    ended = torch.isin(written, torch.tensor(ends, device=written.device)).cumsum(dim=1)
    return int((ended == 0).sum() + (ended[:, -1] > 0).sum())


def _left_padded(tokenizer: Any, texts: Sequence[str], longest: int) -> Any:
    sides = tokenizer.padding_side, tokenizer.truncation_side
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    try:
        return tokenizer(
            list(texts),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=longest,
            add_special_tokens=False,
        )
    finally:
        tokenizer.padding_side, tokenizer.truncation_side = sides


def generation_options(model: Any, tokenizer: Any, config: GenerationConfig) -> Any:
    from transformers import GenerationConfig as Options

    sampling = {"temperature": config.temperature, "top_p": config.top_p} if config.do_sample else {}
    return Options(
        max_new_tokens=config.max_new_tokens,
        do_sample=config.do_sample,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=end_tokens(model, tokenizer),
        use_cache=True,
        **sampling,
    )


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's, and those the model's own generation config adds."""
    own = getattr(model.generation_config, "eos_token_id", None)
    others = own if isinstance(own, list) else [own]
    return sorted({token for token in (tokenizer.eos_token_id, *others) if token is not None})
