"""The teacher that a run has: another model, which the one in training learns from."""

from typing import Any

from polm_core.blocks import TrainConfig
from polm_core.context import ModelSpec, RunContext, RunSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.method import Teacher
from polm_core.training.loading import check_writer, load_tokenizer, load_writer


def check_teacher(kind: Teacher, spec: RunSpec, tokenizer: Any) -> ModelSpec:
    """The run's teacher, if it can teach the model whose tokenizer is given; no weight is loaded.

    Raises `ConfigError` when there is none or when it is the model itself, `ModelError` when it writes no text, or
    reads other tokens where the method compares the two token by token.
    """
    teacher = spec.teacher_model
    if teacher is None:
        raise ConfigError(
            f"{spec.method} learns from a teacher, and the run has none.",
            fields={"teacher_model": ["must name a teacher model"]},
            advice="Name a stronger model beside the one that is trained, as teacher_model.",
        )
    if _source(teacher) == _source(spec.model):
        raise ConfigError(
            f"{teacher.name} would be its own teacher, which it can learn nothing from.",
            fields={"teacher_model": ["must be another model than the one that is trained"]},
            advice="Choose a stronger model as the teacher.",
        )
    check_writer(teacher)
    if kind is Teacher.SAME_TOKENIZER and not shares_tokenizer(teacher, tokenizer):
        raise ModelError(
            f"The teacher {teacher.name} has another tokenizer than {spec.model.name}, so what they make of a text "
            "cannot be compared token by token.",
            code="model.tokenizer",
            advice="Take a teacher of the same family; or the method gold, which compares the two all the same, or "
            "seq-kd, which learns from what a teacher writes.",
        )
    return teacher


def shares_tokenizer(teacher: ModelSpec, tokenizer: Any) -> bool:
    """Whether the teacher's tokens are those of `tokenizer`."""
    return bool(load_tokenizer(teacher).get_vocab() == tokenizer.get_vocab())


def bring_teacher(teacher: ModelSpec, config: TrainConfig, context: RunContext) -> Any:
    """The teacher, loaded and ready to read and write."""
    from polm_core.training.setup import ready_to_write

    context.check()
    context.phase("loading the teacher")
    return ready_to_write(load_writer(teacher), config, context).requires_grad_(False)


def _source(model: ModelSpec) -> tuple[str, str | None, str]:
    return model.source, model.revision, str(model.adapter or "")
