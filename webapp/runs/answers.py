"""Making datasets of the answers that a run's model wrote."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import MD5
from pydantic import ValidationError

from polm_core.formats import Format
from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.datasets.derivations import AnswersDerivation
from webapp.datasets.models import Dataset, DatasetVersion, Origin
from webapp.datasets.services import dataset_derive, dataset_extend
from webapp.errors import Invalid, NotFound
from webapp.runs.models import Run, RunDataset, RunSample

Row = dict[str, Any]

FORMATS = (Format.PROMPT_COMPLETION, Format.PREFERENCE)
# Chosen by hand at once.
MAX_CHOSEN = 1000
_BATCH = 500


def dataset_of_answers(
    *,
    actor: Actor,
    run: Run,
    format: str,
    samples: Sequence[int] | None = None,
    least_reward: float | None = None,
    least_margin: float = 0.0,
    name: str = "",
    dataset: Dataset | None = None,
) -> DatasetVersion:
    """Have a worker make rows of answers of `run`: as a new dataset, or added to `dataset` as its next version.

    `samples` are answers chosen by hand; None takes the best by rule (see `AnswersDerivation`). Raises Invalid when no
    row would come of it, as far as that is known without reading every answer.
    """
    actor.require(run.team_id, Role.MEMBER, "run")
    derivation = _derivation(run, format, samples, least_reward, least_margin)
    _refuse_nothing(derivation)
    with transaction.atomic():
        if dataset is None:
            version = dataset_derive(
                actor=actor,
                team=run.team,
                derivation=derivation,
                name=name,
                origin=Origin.DISTILLED,
                origin_model=derivation.model,
            )
        elif dataset.team_id != run.team_id:
            raise Invalid(
                "The dataset belongs to another team than the run.",
                fields={"dataset": ["is another team's: choose one of the run's team"]},
            )
        else:
            version = dataset_extend(actor=actor, dataset=dataset, derivation=derivation)
        RunDataset.objects.create(run=run, version=version)
    return version


def _derivation(
    run: Run, format: str, samples: Sequence[int] | None, least_reward: float | None, least_margin: float
) -> AnswersDerivation:
    if format not in FORMATS:
        raise Invalid("The format is not accepted.", fields={"format": [f"must be one of {', '.join(FORMATS)}"]})
    if samples is not None and len(samples) > MAX_CHOSEN:
        raise Invalid(
            "Too many answers are chosen.", fields={"samples": [f"at most {MAX_CHOSEN:,}: use a rule for more"]}
        )
    try:
        return AnswersDerivation(
            run=run.pk,
            run_name=run.name,
            model=f"{run.model.name}, trained by {run.name}"[:200],
            format=format,
            samples=None if samples is None else sorted(set(samples)),
            least_reward=least_reward,
            least_margin=least_margin,
        )
    except ValidationError as error:
        fields = {str(one["loc"][-1]): [str(one["msg"])] for one in error.errors()}
        raise Invalid("The rule is not accepted.", fields=fields) from error


def _refuse_nothing(derivation: AnswersDerivation) -> None:
    """What is chosen by hand is tried; of a rule it is only asked whether there is any answer to judge."""
    if derivation.samples is None:
        judged = _answers(derivation).filter(reward__isnull=False)
        if derivation.format == Format.PROMPT_COMPLETION and derivation.least_reward is not None:
            judged = judged.filter(reward__gte=derivation.least_reward)
        if not judged.exists():
            highest = _answers(derivation).filter(reward__isnull=False).order_by("-reward").first()
            raise Invalid(
                "No answer has so high a reward."
                if highest
                else "The run has no answers with rewards, so there is no best one.",
                fields={"least_reward": [f"the highest is {highest.reward:g}"]} if highest else {},
                advice="" if highest else "Choose answers by hand instead.",
            )
        return
    if not derivation.samples:
        raise Invalid("No answer is chosen.", fields={"samples": ["choose at least one answer"]})
    found = _answers(derivation).count()
    if found < len(derivation.samples):
        raise Invalid(
            "Some of the chosen answers are not the run's.",
            fields={"samples": [f"{len(derivation.samples) - found} of {len(derivation.samples)} are not there"]},
        )
    if next(answer_rows(derivation), None) is None:
        raise Invalid(*_why_nothing(derivation))


def _why_nothing(derivation: AnswersDerivation) -> tuple[str]:
    if derivation.format == Format.PROMPT_COMPLETION:
        return ("Every chosen answer is empty.",)
    chosen = list(_answers(derivation))
    if all(one.reward is None for one in chosen):
        return ("The chosen answers have no rewards, so none is better than another.",)
    prompts: dict[str, set[str]] = defaultdict(set)
    for one in chosen:
        prompts[one.prompt].add(one.completion.strip())
    if all(sum(one.prompt == prompt for one in chosen) == 1 for prompt in prompts):
        return ("A pair needs two answers to the same prompt, and each prompt has a single one here.",)
    if all(len(answers) == 1 for answers in prompts.values()):
        return ("The answers to each prompt are equal, so there is no pair.",)
    return (f"No two answers to one prompt have rewards at least {derivation.least_margin:g} apart.",)


def answer_rows(derivation: AnswersDerivation) -> Iterator[Row]:
    """The rows that the derivation makes, in constant memory but for the names of the prompts.

    Raises NotFound when the run is gone.
    """
    if not Run.objects.filter(pk=derivation.run).exists():
        raise NotFound(
            f"The run {derivation.run_name} is deleted, and its answers with it.",
            advice="Choose answers of another run.",
        )
    if derivation.format == Format.PREFERENCE:
        return _pairs(derivation)
    return _completions(derivation)


def _answers(derivation: AnswersDerivation) -> QuerySet[RunSample]:
    """The answers to choose among. Not all are the model's: a reward model has scored others' (`side`), and a run may
    learn from those of a teacher or a dataset (`by`)."""
    answers = RunSample.objects.filter(run=derivation.run).exclude(data__has_any_keys=["side", "by"])
    return answers.filter(is_rollout=True) if derivation.samples is None else answers.filter(pk__in=derivation.samples)


def _completions(derivation: AnswersDerivation) -> Iterator[Row]:
    if derivation.samples is not None:
        chosen: Iterable[RunSample] = _answers(derivation).order_by("id")
    else:
        least = derivation.least_reward
        best = ((best,) for best, _ in _extremes(derivation) if least is None or best.reward >= least)
        chosen = (sample for (sample,) in _loaded(best))
    seen = set()
    for sample in chosen:
        said = sample.prompt, sample.completion
        if sample.completion.strip() and said not in seen:
            seen.add(said)
            yield {"prompt": _prompt(sample), "completion": _answer(sample)}


def _pairs(derivation: AnswersDerivation) -> Iterator[Row]:
    apart = (
        (best, worst)
        for best, worst in _extremes(derivation)
        if best.reward > worst.reward and best.reward - worst.reward >= derivation.least_margin
    )
    for chosen, rejected in _loaded(apart):
        if chosen.completion.strip() != rejected.completion.strip():
            yield {"prompt": _prompt(chosen), "chosen": _answer(chosen), "rejected": _answer(rejected)}


@dataclass(frozen=True)
class _Judged:
    pk: int
    reward: float


def _extremes(derivation: AnswersDerivation) -> list[tuple[_Judged, _Judged]]:
    """The best and the worst answer to each prompt, the best prompts first. Texts stay in the database."""
    judged = _answers(derivation).filter(reward__isnull=False).exclude(completion__regex=r"^\s*$")
    ordered = judged.order_by(F("reward").desc(), "id").values_list("pk", "reward", MD5("prompt"))
    found: dict[str, tuple[_Judged, _Judged]] = {}
    for pk, reward, prompt in ordered.iterator(chunk_size=2000):
        one = _Judged(pk, reward)
        found[prompt] = (found[prompt][0] if prompt in found else one, one)
    return list(found.values())


def _loaded(groups: Iterable[tuple[_Judged, ...]]) -> Iterator[list[RunSample]]:
    """The answers themselves, group by group; a group of which one is deleted meanwhile is left out."""
    rest = iter(groups)
    while batch := list(islice(rest, _BATCH)):
        samples = RunSample.objects.in_bulk([one.pk for group in batch for one in group])
        yield from ([samples[one.pk] for one in group] for group in batch if all(one.pk in samples for one in group))


def _prompt(sample: RunSample) -> Any:
    turns = sample.data.get("turns")
    if isinstance(turns, list) and turns:
        return turns
    return sample.prompt if sample.data.get("raw") else [{"role": "user", "content": sample.prompt}]


def _answer(sample: RunSample) -> Any:
    if sample.data.get("raw"):
        return sample.completion
    return [{"role": "assistant", "content": sample.completion.strip()}]
