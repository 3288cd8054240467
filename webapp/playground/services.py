"""Prompts that people try on models, and how a worker answers them."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from pydantic import BaseModel as Schema
from pydantic import ConfigDict, Field, ValidationError

from polm_core.data.values import cleaned, is_storable
from polm_core.errors import PolmError
from polm_core.retrieval.config import FindConfig
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.claimed import LEASE, MAX_ATTEMPTS, WorkStatus
from webapp.errors import Conflict, Invalid, NotFound, refused
from webapp.ids import new_id
from webapp.live.notify import publish
from webapp.playground.models import Generation
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.registry.selectors import source_get
from webapp.retrieval.selectors import index_get
from webapp.retrieval.services import check_done
from webapp.tasks import GENERATE, wake

MAX_MODELS = 4
MAX_PROMPT = 20_000
MAX_OPEN = 40


class GenerationSettings(Schema):
    """How answers are drawn."""

    model_config = ConfigDict(extra="forbid")

    max_new_tokens: int = Field(default=200, ge=1, le=2048)
    temperature: float = Field(default=0.7, ge=0, le=2, description="0 always takes the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**32)


def generate_create(
    *,
    actor: Actor,
    team: Team,
    models: Sequence[str],
    prompt: str,
    system: str = "",
    settings: Mapping[str, Any] | None = None,
    index: str | None = None,
    find: Mapping[str, Any] | None = None,
) -> list[Generation]:
    """Put one prompt to 1-4 models (`starter`, a model's or a checkpoint's id); the answers share a batch.

    With the id of an `index` they are written from its passages, those that `find` (a `FindConfig`) lets in.

    Raises Invalid with the fields at fault, Conflict when the team has too many answers outstanding.
    """
    actor.require(team.pk, Role.MEMBER, "team")
    if not 1 <= len(models) <= MAX_MODELS:
        raise Invalid("Choose models.", fields={"models": [f"Give 1 to {MAX_MODELS} models or checkpoints."]})
    sources = [_source(actor, ref, team) for ref in models]
    common = {
        "team": team,
        "batch": new_id(),
        "prompt": _clean_text("prompt", prompt, least=1),
        "system": _clean_text("system", system),
        "settings": _clean_settings(GenerationSettings, settings or {}, "settings"),
        **_documents(actor, team, index, find or {}),
        "created_by": actor.user,
    }
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=team.pk)  # the limit holds for parallel requests too
        if Generation.objects.open().filter(team=team).count() + len(sources) > MAX_OPEN:
            raise Conflict("Too many answers are outstanding.", advice="Wait for them, or stop some.")
        generations = [Generation.objects.create(**common, **source) for source in sources]
        audit(actor=actor, team_id=team.pk, verb="generation.create", target=generations[0])
        wake(GENERATE, generations[0].pk)
    return generations


def generation_stop(*, actor: Actor, generation: Generation) -> None:
    """End an answer, keeping what has been written of it; one that has ended stays as it is."""
    actor.require(generation.team_id, Role.MEMBER, "generation")
    with transaction.atomic():
        stopped = Generation.objects.open().filter(pk=generation.pk).update(status=WorkStatus.STOPPED)
        if stopped:
            _announce(generation, WorkStatus.STOPPED)


# --- by workers -------------------------------------------------------------------------------------------------------
def generation_claim() -> Generation | None:
    """Take the oldest answer that waits or has lost its worker; the row's `attempts` is the claim's number."""
    while True:
        with transaction.atomic():
            found = Generation.objects.claim(text="", passages=[])
            if found is None:
                return None
            _announce(found, WorkStatus.RUNNING)
        if found.attempts <= MAX_ATTEMPTS:
            return found
        lost = PolmError("The worker was lost while answering.", code="generation.lost", advice="Ask again.")
        generation_fail(generation=found, error=lost)


def generation_write(*, generation: Generation, text: str) -> bool:
    """Add to the answer and renew the claim; False when it was stopped or another worker has it.

    Open pages are sent what is new, with its place in the answer.
    """
    text = cleaned(text)
    whole = generation.text + text
    with transaction.atomic():
        held = Generation.objects.held(generation).update(text=whole, lease_until=Now() + LEASE)
        if held and text:
            news = {"generation": str(generation.pk), "from": generation.length, "text": text}
            publish(f"batch:{generation.batch}", "token", news)
            generation.text = whole
    return bool(held)


def generation_hold(*, generation: Generation) -> bool:
    """Renew the claim; False when it was stopped or another worker has it."""
    return bool(Generation.objects.held(generation).update(lease_until=Now() + LEASE))


def generation_found(*, generation: Generation, passages: list[dict[str, Any]]) -> bool:
    """Keep the passages that the answer is written from; False as for `generation_write`."""
    generation.passages = passages
    with transaction.atomic():
        held = Generation.objects.held(generation).update(passages=passages, lease_until=Now() + LEASE)
        if held:
            _announce(generation, WorkStatus.RUNNING)
    return bool(held)


def generation_finish(*, generation: Generation, tokens: int, seconds: float) -> bool:
    """End an answer that is whole; False when it was stopped or another worker has it."""
    return _end(generation, status=WorkStatus.DONE, tokens=tokens, seconds=seconds)


def generation_fail(*, generation: Generation, error: PolmError) -> bool:
    """End an answer with the reason why there is no more of it."""
    return _end(generation, status=WorkStatus.FAILED, error=error.as_dict())


def generation_release(*, generation: Generation) -> None:
    """Give a claim back unused, as a worker does that shuts down."""
    Generation.objects.release(generation, text="", passages=[])


# --- helpers ----------------------------------------------------------------------------------------------------------
def _end(generation: Generation, *, status: WorkStatus, **values: Any) -> bool:
    with transaction.atomic():
        held = Generation.objects.held(generation).update(status=status, lease_until=None, **values)
        if held:
            _announce(generation, status)
    return bool(held)


def _announce(generation: Generation, status: WorkStatus) -> None:
    publish(f"batch:{generation.batch}", "status", {"generation": str(generation.pk), "status": status})


def _source(actor: Actor, ref: str, team: Team) -> dict[str, BaseModel | Checkpoint]:
    try:
        found = source_get(actor, ref, team)
    except NotFound:
        raise Invalid(
            "There is no such model.",
            fields={"models": ["Give starter, or the id of a model or checkpoint of this team or shared with it."]},
        ) from None
    if isinstance(found, Checkpoint):
        return {"checkpoint": found}
    if found.status != ModelStatus.READY:
        raise Conflict(f"{found.name} is not ready.", advice="See its page for how far it is.")
    return {"model": found}


def _clean_text(field: str, text: str, *, least: int = 0) -> str:
    """Text that Postgres and a tokenizer can take."""
    if not is_storable(text) or not least <= len(text.strip()) or len(text) > MAX_PROMPT:
        raise Invalid("The text is not accepted.", fields={field: [f"Give {least} to {MAX_PROMPT:,} characters."]})
    return text


def _documents(actor: Actor, team: Team, ref: str | None, find: Mapping[str, Any]) -> dict[str, Any]:
    """The index that is answered from, and what of it is near enough; nothing without an index."""
    if not ref:
        return {}
    try:
        found = index_get(actor, ref)
    except NotFound:
        found = None
    if found is None or found.team_id != team.pk:
        raise Invalid("There is no such index.", fields={"index": ["names no index of this team"]})
    check_done(found)
    return {"index": found, "find": _clean_settings(FindConfig, find, "find")}


def _clean_settings(kind: type[Schema], settings: Mapping[str, Any], field: str) -> dict[str, Any]:
    try:
        return kind.model_validate(dict(settings)).model_dump()
    except ValidationError as error:
        raise refused(error, "Some settings are not accepted.", field) from None
