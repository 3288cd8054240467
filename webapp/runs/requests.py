"""What a run is made from, resolved and checked."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from polm_core import catalogue
from polm_core.data.convert import compatible
from polm_core.formats import Format
from polm_core.method import Method, no_documents
from polm_core.methods.integration.merge import MergeConfig, check_choice
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.errors import Conflict, Invalid, NotFound
from webapp.registry.models import BaseModel, ModelStatus
from webapp.registry.selectors import team_of_source
from webapp.registry.services import model_resolve_for_run
from webapp.runs.models import RewardList
from webapp.runs.reward_lists import reward_list_for_run, scoring_models
from webapp.runs.scoring import merged_models, teaching_model

MAX_TAGS = 20
MAX_LABELS = 10
MAX_GPU_MEMORY_GB = 10_000

# A dataset, whose newest version is meant, or one of its versions.
Rows = str | uuid.UUID | DatasetVersion


class RunRequest:
    """What a run is made from, resolved and checked: nothing in it is the caller's word alone.

    Raises NotFound, Forbidden, or Invalid/ConfigError with the fields at fault.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        method: str,
        model: str,
        dataset: Rows | None = None,
        eval_dataset: Rows | None = None,
        documents: Rows | None = None,
        reward_model: str | None = None,
        judge_model: str | None = None,
        teacher_model: str | None = None,
        merge_models: Sequence[str] = (),
        reward_list: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.method: Method = catalogue.get(method)
        self.config = self.method.parse(config or {}).model_dump(mode="json")
        self._check_datasets(dataset, eval_dataset)
        self.dataset_version = self._version(actor, dataset, "dataset") if dataset else None
        self.eval_dataset_version = self._version(actor, eval_dataset, "eval_dataset") if eval_dataset else None
        self.documents_version = self._documents(actor, documents) if self.method.takes_documents else None
        self.team: Team = self.dataset_version.dataset.team if self.dataset_version else team_of_source(actor, model)
        self.model: BaseModel = model_resolve_for_run(actor, model, team=self.team)
        if self.model.status == ModelStatus.FAILED:
            raise Conflict(
                f"The model {self.model.name} could not be prepared.",
                advice="See its page for the reason, or choose another.",
            )
        self.reward_list = reward_list_for_run(actor, reward_list, self.team) if reward_list else None
        if self.reward_list is not None:
            self._take(self.reward_list, config or {})
            reward_model = ref_of(self.reward_list.reward_model_id)
            judge_model = ref_of(self.reward_list.judge_model_id)
        rewards = self.config.get("rewards", {})
        models = scoring_models(actor, self.team, rewards, reward_model, judge_model)
        self.reward_model, self.judge_model = models["reward_model"], models["judge_model"]
        self.teacher_model = (
            teaching_model(actor, self.method.teacher, self.model, teacher_model, self.team)
            if self.method.teacher
            else None
        )
        self.merge_models: list[BaseModel] = []
        if self.method.merges:
            check_choice(cast(MergeConfig, self.method.parse(self.config)), 1 + len(merge_models))
            self.merge_models = merged_models(actor, self.model, merge_models, self.team)

    def _check_datasets(self, dataset: Any, eval_dataset: Any) -> None:
        """Raise Invalid unless there is a dataset where the method takes one, and no other rows than it takes."""
        title, takes = self.method.title, bool(self.method.formats)
        if bool(dataset) != takes:
            raise Invalid(
                f"{title} takes {'a' if takes else 'no'} dataset.",
                advice=f"Name one of {' or '.join(self.method.formats)} rows." if takes else "Leave it out.",
                fields={"dataset": ["must name a dataset" if takes else "must be left out"]},
            )
        if eval_dataset and not self.method.holds_out:
            raise Invalid(
                f"{title} takes no held-out set.",
                advice="Leave it out.",
                fields={"eval_dataset": ["must be left out"]},
            )

    def _take(self, pinned: RewardList, config: Mapping[str, Any]) -> None:
        """Put the pinned rewards into the settings, which must not give others."""
        taken = self.method.parse({**config, "rewards": pinned.rewards}).model_dump(mode="json")
        if "rewards" in config and self.config["rewards"] != taken["rewards"]:
            raise Invalid(
                f"The settings give other rewards than {pinned} does.",
                advice="Leave rewards out of the settings, or name no reward list.",
                fields={"reward_list": [f"must not be given with rewards that differ from {pinned}"]},
            )
        self.config = taken

    def _version(self, actor: Actor, ref: Rows, field: str) -> DatasetVersion:
        return version_for_run(actor, ref, formats=self.method.formats, title=self.method.title, field=field)

    def _documents(self, actor: Actor, ref: Rows | None) -> DatasetVersion:
        if not ref:
            raise no_documents()
        title = f"{self.method.title}, as its documents,"
        return version_for_run(actor, ref, formats=[Format.DOCUMENTS], title=title, field="documents")

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method.slug,
            "model": str(self.model.pk),
            "reward_model": str(self.reward_model.pk) if self.reward_model else None,
            "judge_model": str(self.judge_model.pk) if self.judge_model else None,
            "teacher_model": str(self.teacher_model.pk) if self.teacher_model else None,
            "merge_models": [str(one.pk) for one in self.merge_models],
            "dataset_version": str(self.dataset_version.pk) if self.dataset_version else None,
            "eval_dataset_version": str(self.eval_dataset_version.pk) if self.eval_dataset_version else None,
            "documents_version": str(self.documents_version.pk) if self.documents_version else None,
            "config": self.config,
        }


def version_for_run(actor: Actor, ref: Rows, *, formats: Collection[Format], title: str, field: str) -> DatasetVersion:
    """The newest version of the dataset with that id, or that version itself, if it is ready and serves `formats`.

    Raises Invalid, which names the `field` that `ref` was given in and the `title` of what would train on it, or
    Conflict while it is being processed.
    """
    try:
        pk = ref.dataset_id if isinstance(ref, DatasetVersion) else ref
        dataset = actor.get(Dataset.objects.select_related("team"), pk, Role.MEMBER)
    except NotFound:
        raise Invalid("There is no such dataset.", fields={field: ["names no dataset of yours"]}) from None
    versions = dataset.versions.select_related("dataset__team").order_by("-number")
    version = versions.filter(pk=ref.pk).first() if isinstance(ref, DatasetVersion) else versions.first()
    if version is None or version.status == VersionStatus.INVALID:
        raise Invalid(
            f"The dataset {dataset.name} is invalid.",
            advice="Open it to see what is wrong with the file.",
            fields={field: ["is not usable: its file has problems"]},
        )
    if version.status == VersionStatus.PROCESSING:
        raise Conflict(f"The dataset {dataset.name} is still being processed.", advice="Try again when it is ready.")
    fit = compatible(formats, Format(version.format))
    if not fit.ok:
        raise Invalid(f"{title} cannot use {dataset.name}.", advice=fit.reason, fields={field: [fit.reason]})
    return version


def clean_tags(tags: Iterable[str]) -> list[str]:
    """Tags without blanks and repeats, in the order given."""
    cleaned = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(cleaned) > MAX_TAGS or any(len(tag) > 50 for tag in cleaned):
        raise Invalid(
            "The tags are not accepted.", fields={"tags": [f"at most {MAX_TAGS} tags of at most 50 characters"]}
        )
    return cleaned


def clean_priority(priority: int) -> int:
    """The priority, if it is one."""
    if not -10 <= priority <= 10:
        raise Invalid("The priority is not accepted.", fields={"priority": ["must be from -10 to 10"]})
    return priority


def clean_labels(labels: Iterable[str]) -> list[str]:
    """Labels that a worker must carry, without blanks and repeats."""
    cleaned = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(cleaned) > MAX_LABELS or any(len(label) > 50 or "," in label for label in cleaned):
        right = f"at most {MAX_LABELS} labels of at most 50 characters, without commas"
        raise Invalid("The labels are not accepted.", fields={"labels": [right]})
    return cleaned


def hardware_asked(config: Mapping[str, Any], gpu_memory_gb: int) -> dict[str, Any]:
    """What the settings ask of a worker: a GPU for each process, unless they say how many or that the CPU will do."""
    if not 0 <= gpu_memory_gb <= MAX_GPU_MEMORY_GB:
        right = f"must be from 0, which is any, to {MAX_GPU_MEMORY_GB}"
        raise Invalid("The GPU memory is not accepted.", fields={"gpu_memory_gb": [right]})
    devices = config.get("devices", "auto")
    if devices == 0 and gpu_memory_gb:
        right = "must be 0 for a run on the CPU: its devices are set to 0"
        raise Invalid("A run on the CPU has no GPU memory.", fields={"gpu_memory_gb": [right]})
    if devices == "auto":
        gpus, cpu_will_do = config.get("processes", 1), not gpu_memory_gb
    else:
        gpus, cpu_will_do = devices, devices == 0
    return {"gpus": gpus, "cpu_will_do": cpu_will_do, "gpu_memory_gb": gpu_memory_gb}


def ref_of(pk: uuid.UUID | None) -> str | None:
    """An id as a request names it."""
    return str(pk) if pk else None
