"""What the online methods share: prompts to answer, the trainer's settings, and answers written down as they come."""

import logging
import math
import time
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import Any

from polm_core.blocks import AdapterType
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.rewards.config import OnlineConfig, PromptedConfig, VllmConfig
from polm_core.run_dir import RunDir
from polm_core.training.arguments import training_arguments
from polm_core.training.encoding import as_asked, as_prompts, encode_prompts, plain_text
from polm_core.training.rewards import JUDGED, LEARNED, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import GENERATED

logger = logging.getLogger(__name__)

# What these do not judge is told at every step: they are models, and can fail later.
_MAY_FAIL = frozenset({JUDGED, LEARNED})
_NO_SIGNAL = "frac_reward_zero_std"
# Rewards that differ by less are the same one, but for how their parts were added up.
_ROUNDING = 1e-6


def prompt_rows(tokenizer: Any, rows: Sequence[Row], config: PromptedConfig) -> list[Row]:
    """The prompts as the trainer takes them; empty and too long ones are left out, and that is told."""
    prompts = as_prompts(rows, wrap=config.chat_template)
    sequences = encode_prompts(tokenizer, prompts)
    kept = [
        row
        for row, (encoded,) in zip(prompts, sequences, strict=True)
        if asks(row) and len(encoded.input_ids) <= config.max_length
    ]
    if len(kept) < len(rows):
        message = "%d of %d prompts are empty or over %d tokens and are left out."
        logger.warning(message, len(rows) - len(kept), len(rows), config.max_length)
    return kept


def asks(row: Row) -> bool:
    """Whether there is something to answer."""
    return bool(plain_text(row["prompt"]).strip())


def needed_prompts(rows: Sequence[Row]) -> list[Row]:
    """The rows that ask something. Raises `DataError` when none does."""
    left = [row for row in rows if asks(row)]
    if not left:
        raise DataError("Every prompt is empty, so there is none to answer.", code="data.untrained")
    return left


def check_prompts(count: int, config: PromptedConfig) -> None:
    """Raise `DataError` when the prompts to train on are not enough for the first step."""
    if not count:
        raise DataError(
            f"No prompt has something to answer within {config.max_length} tokens.",
            code="data.untrained",
            advice="Raise max_length, or check that the prompts are not empty.",
        )
    needed = config.prompts_needed
    if count < needed:
        raise DataError(
            f"A step takes {needed} prompts, and there are {count} to train on.",
            code="data.too_few",
            advice="Add prompts, raise num_generations, or lower batch_size or gradient_accumulation_steps.",
        )


def online_arguments(config: OnlineConfig, run_dir: RunDir) -> dict[str, Any]:
    """Keyword arguments for the settings of trl's online trainers, whichever it is."""
    return {
        **training_arguments(config, run_dir),
        "num_generations_eval": config.held_out_answers,
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "mask_truncated_completions": config.skip_cut_answers,
        "reward_weights": list(config.rewards.weights.values()),
        # These trainers count the tokens they read and write themselves.
        "include_num_input_tokens_seen": "no",
        **vllm_arguments(config),
    }


def vllm_arguments(config: OnlineConfig) -> dict[str, Any]:
    """What has vLLM write the answers beside the model in training, on its GPU; nothing where that cannot be."""
    import torch

    from polm_core.training.loading import has_accelerator

    wanted = isinstance(config, VllmConfig) and config.use_vllm == "auto" and find_spec("vllm") is not None
    if not wanted or config.adapter.type is AdapterType.QLORA:
        return {}
    if not has_accelerator(config) or not torch.cuda.is_available():
        return {}
    logger.info("vLLM writes the answers.")
    return {"use_vllm": True, "vllm_mode": "colocate"}


def writing_rollouts(trainer: type, context: RunContext, config: OnlineConfig, *, before: int = 0) -> type:
    """A trainer like `trainer` that writes the answers of each step, with their rewards, to the run's samples.

    Of each step those of `config.logged_prompts` prompts are written, so that the file is bounded. The run has made
    `before` steps already when the trainer begins.
    """
    weights, answers = config.rewards.weights, config.num_generations

    class WritesRollouts(trainer):
        def _generate_and_score_completions(self, inputs: list[Row]) -> Any:
            logs = self._logs
            for column in (logs["completion"], logs["advantages"], *logs["rewards"].values()):
                column.clear()
            output = super()._generate_and_score_completions(inputs)
            self._count_unjudged()
            self._count_without_signal()
            if self.model.training:
                # Of several processes the first has the first rows, and all that was made of every row. The last
                # prompt's other answers may be made elsewhere.
                prompts = min(config.logged_prompts, math.ceil(len(inputs) / answers))
                self._write([inputs[min(index, len(inputs) - 1)] for index in range(prompts * answers)])
            return output

        def _generate_single_turn(self, *inputs: Any, **more: Any) -> Any:
            """Answers, and how fast they are written in training."""
            began = time.perf_counter()
            output = super()._generate_single_turn(*inputs, **more)
            if self.model.training:
                # Some trainers give the tokens alone, some what belongs to them too.
                answers = output[0] if isinstance(output, tuple) else output
                speed = sum(map(len, answers)) / (time.perf_counter() - began)
                self._metrics["train"][GENERATED].append(speed * self.accelerator.num_processes)
            return output

        def _count_unjudged(self) -> None:
            """The share of the step's answers that a reward could not judge, for those where there are some."""
            metrics = self._metrics["train" if self.model.training else "eval"]
            for name in weights:
                given = list(self._logs["rewards"][name])
                unjudged = sum(not math.isfinite(value) for value in given)
                if given and (unjudged or name in _MAY_FAIL):
                    metrics[f"rewards/{name}/not_judged"].append(unjudged / len(given))

        def _count_without_signal(self) -> None:
            """The share of the step's prompts whose answers all earned the same, where the trainer counts it.

            It looks at what is left of rewards once the distance from the reference is paid for, of which no two
            answers have the same, or at all prompts at once.
            """
            training = self.model.training
            metrics = self._metrics["train" if training else "eval"]
            if _NO_SIGNAL not in metrics:
                return
            columns = [[_number(value) for value in self._logs["rewards"][name]] for name in weights]
            earned = [weighted(dict(zip(weights, parts, strict=True)), weights) for parts in zip(*columns, strict=True)]
            size = self.num_generations if training else self.num_generations_eval
            groups = [earned[start : start + size] for start in range(0, len(earned), size)]
            metrics[_NO_SIGNAL][-1] = fmean(map(are_alike, groups))

        def _write(self, rows: list[Row]) -> None:
            logs, step = self._logs, before + self.state.global_step + 1
            for index, row in enumerate(rows):
                parts = {name: _number(logs["rewards"][name][index]) for name in weights}
                context.log_sample(
                    step,
                    plain_text(row["prompt"]),
                    logs["completion"][index],
                    **({"reference": row["answer"]} if "answer" in row else {}),
                    **({"task": row["task"]} if row.get("task") is not None else {}),
                    group=index // answers,
                    place=index % answers,
                    rewards=parts,
                    reward=weighted(parts, weights),
                    advantage=_number(logs["advantages"][index]),
                    **as_asked(row["prompt"]),
                )

    return WritesRollouts


def are_alike(rewards: Sequence[float | None]) -> bool:
    """Whether no answer earned more than another; what was not judged cannot be compared."""
    known = [reward for reward in rewards if reward is not None]
    return not known or max(known) - min(known) <= _ROUNDING


def _number(value: float) -> float | None:
    """What is not judged is NaN to the trainer, which JSON does not have."""
    return value if math.isfinite(value) else None
