"""The trainer of the methods that learn from a teacher: trl's SFT trainer, with a loss that compares the two models.

trl's own trainers for this tell neither the held-out loss nor how far the model is from its teacher on held-out rows.
Of its GKD trainer the loss is taken; that of MiniLLM counts the padding behind answers as said.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.functional import kl_div
from trl import SFTTrainer

from polm_core.training.sampling import GENERATED


class Read(NamedTuple):
    """What both models make of a batch: log-probabilities of every token, at each token that is trained on.

    `tokens` are those that stand there, and `trained` marks their places, a line for each row of the batch.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    tokens: torch.Tensor
    trained: torch.Tensor

    @property
    def said(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The log-probability of the tokens that stand there, by the student and by the teacher."""
        index = self.tokens.unsqueeze(-1)
        return self.student.gather(-1, index).squeeze(-1), self.teacher.gather(-1, index).squeeze(-1)


Loss = Callable[[Read], torch.Tensor]


class TaughtTrainer(SFTTrainer):
    """trl's SFT trainer, which tells at each evaluation how far the model is from its teacher, if it has one."""

    teacher: Any = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if model.training or self.teacher is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        read = self.read(model, inputs)
        self.count("teacher_kl", divergence(read.teacher, read.student))
        loss = -read.said[0].mean()
        return (loss, {}) if return_outputs else loss

    def read(self, model: Any, inputs: dict[str, Any]) -> Read:
        """Have both models read the batch."""
        texts = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        labels = inputs["labels"][:, 1:]
        trained = labels != -100
        student = model(**texts, use_cache=False).logits[:, :-1][trained]
        with torch.no_grad():
            teacher = self.teacher(**texts, use_cache=False).logits[:, :-1][trained]
        # Models of one family may have room for more tokens than their tokenizer has.
        known = min(student.shape[-1], teacher.shape[-1])
        student, teacher = (logits[:, :known].float().log_softmax(-1) for logits in (student, teacher))
        return Read(student, teacher, labels[trained], trained)

    def count(self, key: str, value: torch.Tensor) -> None:
        """Log the mean of a value over batches and processes at the next log line."""
        mode = "train" if self.model.training else "eval"
        self._metrics[mode][key].append(self.accelerator.gather(value.detach().float().reshape(-1)).mean().item())


class DistillationTrainer(TaughtTrainer):
    """Learns by `loss` at the tokens that are trained on: those of the rows' answers or, at a share `on_policy` of the
    steps, those of answers that the model writes itself, by the options `writing`."""

    loss: Loss
    on_policy: float
    writing: Any

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        # Drawn from the step alone: all processes decide alike, and so does a run that goes on.
        draw = random.Random(f"{self.args.seed} {self.state.global_step}")  # noqa: S311
        if draw.random() < self.on_policy:
            inputs = self._answered(model, self._prepare_inputs(inputs))
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        read = self.read(model, inputs)
        self.count("teacher_kl", divergence(read.teacher, read.student))
        loss = self.loss(read)
        return (loss, {}) if return_outputs else loss

    def _answered(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch with the model's own answers in place of the last of each row."""
        prompts = [
            ids[:start].tolist()
            for ids, start in zip(inputs["input_ids"], map(last_answer, inputs["labels"] != -100), strict=True)
        ]
        writer = self.accelerator.unwrap_model(model)
        began = time.perf_counter()
        with _writing(writer):
            batch = self.processing_class.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
            batch = batch.to(writer.device)
            written = writer.generate(**batch, generation_config=self.writing)[:, batch["input_ids"].shape[1] :]
        seconds = time.perf_counter() - began
        answers = [_until_end(answer, self.writing.eos_token_id) for answer in written.tolist()]
        lengths = torch.tensor([float(len(answer)) for answer in answers], device=writer.device)
        cut = [answer[-1] not in self.writing.eos_token_id for answer in answers]
        self.count("completions/mean_length", lengths)
        self.count("completions/clipped_ratio", torch.tensor(cut, device=writer.device))
        self.count(GENERATED, lengths.sum() / seconds)
        rows = [
            {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return dict(self.data_collator(rows))


def divergence(of: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
    """The mean over tokens of the KL divergence of one model's next token from the other's."""
    return kl_div(under, of, reduction="none", log_target=True).sum(-1).mean()


def last_answer(trained: torch.Tensor) -> int:
    """Where the last run of trained tokens begins."""
    before = trained.roll(1)
    before[0] = False
    # A model has to read something to go on from.
    return max(1, int((trained & ~before).nonzero()[-1]))


def _until_end(answer: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The answer with the first token that ends it, without what pads it."""
    length = next((place for place, token in enumerate(answer, 1) if token in ends), len(answer))
    return list(answer[:length])


@contextmanager
def _writing(model: Any) -> Iterator[None]:
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()
