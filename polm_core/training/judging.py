"""The judge that a run has: a model on this machine, or an endpoint."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from polm_core.blocks import GenerationConfig, RunConfig
from polm_core.context import ModelSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.rewards.endpoint import Endpoint, EndpointJudge
from polm_core.rewards.judge import RUBRIC, Judge
from polm_core.training.sampling import generation_options, render_prompts

JudgeKind = Literal["model", "endpoint"]


def bring_judge(
    kind: JudgeKind, model: ModelSpec | None, rubric: str = RUBRIC, *, config: RunConfig, batch_size: int = 8
) -> Judge:
    """The judge that a run asks for, loaded. Raises what loading a model does, `ConfigError` without an endpoint."""
    if kind == "endpoint":
        return EndpointJudge(check_endpoint(), rubric)
    if model is None:
        raise ModelError("The run has no judge model.", code="model.missing", advice="Name one as judge_model.")
    return LocalJudge(model, rubric, config=config, batch_size=batch_size)


def check_endpoint() -> Endpoint:
    """The endpoint that may be asked here. Raises `ConfigError` when there is none, or its address is refused."""
    endpoint = Endpoint.from_environment()
    if endpoint is None:
        raise ConfigError(
            "There is no endpoint to ask for a judgement.",
            code="judge.endpoint",
            advice="Set the team's judge endpoint on the Team page, or POLM_JUDGE_URL and POLM_JUDGE_MODEL where the "
            "worker runs; or let a model judge.",
        )
    EndpointJudge(endpoint)
    return endpoint


class LocalJudge(Judge):
    """Rates by the odds that the model gives each rating as its next token: their mean, so that small models, who
    would not write a number, can judge."""

    def __init__(self, model: ModelSpec, rubric: str = RUBRIC, *, config: RunConfig, batch_size: int = 8) -> None:
        from polm_core.training.loading import load_tokenizer, load_writer, training_device

        super().__init__(rubric)
        self._tokenizer = load_tokenizer(model)
        self._model = load_writer(model).to(training_device(config)).eval()
        self._batch_size = batch_size
        context = getattr(self._model.config, "max_position_embeddings", None)
        self._longest = context - 1 if context else math.inf

    def ratings(self, questions: Sequence[str], best: int) -> list[float | None]:
        turns = [[{"role": "user", "content": question}] for question in questions]
        texts = render_prompts(self._tokenizer, turns)
        tokens = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        given: list[float | None] = [None] * len(texts)
        readable = [index for index, ids in enumerate(tokens) if len(ids) <= self._longest]
        if len(readable) < len(texts):
            self.problem = f"it reads {self._longest} tokens, and the request with its answer is longer"
        # Texts of like length together, so that little is padded.
        readable.sort(key=lambda index: len(tokens[index]))
        for start in range(0, len(readable), self._batch_size):
            batch = readable[start : start + self._batch_size]
            for index, rating in zip(batch, self._expected([tokens[i] for i in batch], best), strict=True):
                given[index] = rating if math.isfinite(rating) else None
        return given

    def _expected(self, sequences: Sequence[list[int]], best: int) -> list[float]:
        """The mean rating of each, by the odds of the tokens `1` to `best` alone."""
        import torch

        longest = max(map(len, sequences))
        padded = [[self._tokenizer.pad_token_id] * (longest - len(ids)) + ids for ids in sequences]
        mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in sequences]
        options = generation_options(self._model, self._tokenizer, GenerationConfig(max_new_tokens=1))
        options.output_logits = options.return_dict_in_generate = True
        with torch.no_grad():
            output: Any = self._model.generate(
                input_ids=torch.tensor(padded, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                generation_config=options,
            )
        odds = output.logits[0][:, self._rating_tokens(best)].float().softmax(dim=-1)
        means: list[float] = (odds @ torch.arange(1.0, best + 1, device=odds.device)).tolist()
        return means

    def _rating_tokens(self, best: int) -> list[int]:
        """The token of each rating at the beginning of a line. Raises `ModelError` when they cannot be told apart."""
        encoded = [
            self._tokenizer(f"\n{rating}", add_special_tokens=False)["input_ids"] for rating in range(1, best + 1)
        ]
        last = [ids[-1] for ids in encoded]
        if len(set(last)) < best:
            raise ModelError("The judge's tokenizer has no token for each digit, so it cannot rate. Take another.")
        return last
