"""The model that a run takes beside its own: a teacher to learn from, or an opponent to be held against."""

from typing import Any, NamedTuple

from polm_core.blocks import RunConfig
from polm_core.context import ModelSpec, RunContext, RunSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.method import Teacher
from polm_core.training.loading import check_writer, load_tokenizer, load_writer


class _Words(NamedTuple):
    """How a person is told that the model beside a run's own is missing, or is its own."""

    missing: str
    itself: str
    right: str
    advice: str


_TEACHES = _Words(
    missing="learns from a teacher, and the run has none",
    itself="would be its own teacher, which it can learn nothing from",
    right="must name a teacher model, another than the one that is trained",
    advice="Name a stronger model beside the one that is trained, as teacher_model.",
)
_OPPOSES = _Words(
    missing="holds answers against those of another model, and the run has none",
    itself="would be held against itself, which tells nothing",
    right="must name another model than the one that is measured",
    advice="Name the model that it was trained from, or any other that writes, as teacher_model.",
)


def check_teacher(kind: Teacher, spec: RunSpec, tokenizer: Any) -> ModelSpec:
    """The model that a run takes beside its own, if it can be of use to that, whose tokenizer is given; no weight is
    loaded.

    Raises `ConfigError` when there is none or when it is the model itself, `ModelError` when it writes no text, or
    reads other tokens where the method compares the two token by token.
    """
    teacher, words = spec.teacher_model, _OPPOSES if kind is Teacher.OPPONENT else _TEACHES
    if teacher is None or _source(teacher) == _source(spec.model):
        said = f"{spec.method} {words.missing}." if teacher is None else f"{teacher.name} {words.itself}."
        raise ConfigError(said, fields={"teacher_model": [words.right]}, advice=words.advice)
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


def bring_teacher(teacher: ModelSpec, config: RunConfig, context: RunContext, *, what: str = "teacher") -> Any:
    """The teacher, loaded and ready to read and write."""
    from polm_core.training.setup import ready_to_write

    context.check()
    context.phase(f"loading the {what}")
    return ready_to_write(load_writer(teacher), config, context).requires_grad_(False)


def _source(model: ModelSpec) -> tuple[str, str | None, str]:
    return model.source, model.revision, str(model.adapter or "")
