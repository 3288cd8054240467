"""Every address against every kind of caller: nobody but a team sees its things, and only those allowed change them.

The addresses are read from the URL configuration and the API's own description. A new one fails here until it says who
may call it, and until the tables below give it objects for its parameters and something valid to send.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from pytest_django import DjangoDbBlocker

from tests.support.api import ApiClient, browser
from tests.support.routes import API_PREFIX, Operation, Page, operations, pages, url_patterns
from tests.support.world import World, api_client_of, make_world
from webapp import artifacts
from webapp.accounts import services
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, User
from webapp.datasets.storing import images_key
from webapp.runs.services import preflight_finish, preflight_request

Given = Callable[[World], Any]

SIGN_IN = "/sign-in?next="
# The callers; see `tests.support.world`. A stranger is nobody's account.
POWERLESS = ("viewer", "guest", "outsider", "loner", "stranger")
POWERFUL = ("member", "admin")
NOT_OF_THE_TEAM = ("outsider", "loner", "stranger")
UPLOAD = b'{"prompt": "1 + 1 =", "completion": " 2"}\n' * 5

# --- what stands in addresses -----------------------------------------------------------------------------------------

# The parameters of pages, by how the address begins; the longest beginning counts.
PAGE_OBJECTS: dict[tuple[str, str], Given] = {
    ("account/tokens/", "pk"): lambda world: world.token.pk,
    ("alerts/rules/", "pk"): lambda world: world.alert_rule.pk,
    ("alerts/runs/", "pk"): lambda world: world.run.pk,
    ("datasets/", "pk"): lambda world: world.dataset.pk,
    ("datasets/", "name"): lambda world: _image(world),
    ("indexes/", "pk"): lambda world: world.index.pk,
    ("invitations/", "pk"): lambda world: world.invitation.pk,
    ("methods/", "slug"): lambda world: "sft",
    ("models/", "pk"): lambda world: world.model.pk,
    ("models/checkpoints/", "pk"): lambda world: world.checkpoint.pk,
    ("models/exports/", "pk"): lambda world: world.export.pk,
    ("models/shares/", "pk"): lambda world: world.share.pk,
    ("playground/", "pk"): lambda world: world.generation.pk,
    ("projects/", "pk"): lambda world: world.project.pk,
    ("runs/", "pk"): lambda world: world.run.pk,
    ("runs/", "action"): lambda world: "stop",
    ("runs/pipelines/", "pk"): lambda world: world.pipeline.pk,
    ("runs/pipelines/<uuid:pk>/restart", "pk"): lambda world: world.stopped_pipeline.pk,
    ("runs/pipelines/<uuid:pk>/restart", "stage"): lambda world: "sft",
    ("runs/views/", "pk"): lambda world: world.run_view.pk,
    ("runs/recipes/", "slug"): lambda world: "instructgpt",
    ("sweeps/", "pk"): lambda world: world.sweep.pk,
    ("runs/queue/workers/", "pk"): lambda world: world.worker.pk,
    ("workbench/", "pk"): lambda world: world.trial.pk,
    ("reports/", "pk"): lambda world: world.report.pk,
    ("links/", "pk"): lambda world: world.view_link.pk,
    ("team/", "pk"): lambda world: world.team.pk,
    ("team/", "user"): lambda world: _pk(world, "bystander"),
    # Whoever holds one of these is let in by it, so callers here have none.
    ("welcome/", "token"): lambda world: "not-a-token",
    ("join/", "token"): lambda world: "not-a-token",
    ("models/shared/", "token"): lambda world: "not-a-token",
    ("shared/", "token"): lambda world: "not-a-token",
}
API_OBJECTS: dict[str, Given] = {
    "action": lambda world: "stop",
    "alert_id": lambda world: world.alert.pk,
    "checkpoint_id": lambda world: world.checkpoint.pk,
    "dataset_id": lambda world: world.dataset.pk,
    "export_id": lambda world: world.export.pk,
    "generation_id": lambda world: world.generation.pk,
    "index_id": lambda world: world.index.pk,
    "lookup_id": lambda world: world.lookup.pk,
    "key": lambda world: "loss",
    "name": lambda world: _image(world),
    "model_id": lambda world: world.model.pk,
    "pipeline_id": lambda world: world.pipeline.pk,
    "project_id": lambda world: world.project.pk,
    "rule_id": lambda world: world.alert_rule.pk,
    "run_id": lambda world: world.run.pk,
    "list_id": lambda world: world.reward_list.pk,
    "trial_id": lambda world: world.trial.pk,
    "report_id": lambda world: world.report.pk,
    "link_id": lambda world: world.view_link.pk,
    "view_id": lambda world: world.run_view.pk,
    "share_id": lambda world: world.share.pk,
    "slug": lambda world: "sft",
    "sweep_id": lambda world: world.sweep.pk,
    "worker_id": lambda world: world.worker.pk,
}
# Parameters that name nobody's property.
NO_PROPERTY = {"action", "key", "name", "slug", "stage", "token"}

# --- what is sent -----------------------------------------------------------------------------------------------------

FORMS: dict[str, Given] = {
    "sign-in": lambda world: {"username": "nobody", "password": "nothing"},
    "sign-out": lambda world: {},
    "sign-in-link": lambda world: {},
    "welcome": lambda world: {"password": "a rather long phrase"},
    "join": lambda world: {},
    "account-name": lambda world: {"full_name": "Ann"},
    "account-password": lambda world: {"current": "x", "password": "y"},
    "token-new": lambda world: {"name": "laptop", "days": "30"},
    "token-revoke": lambda world: {},
    "team-new": lambda world: {"name": "New"},
    "team-switch": lambda world: {"team": world.team.pk},
    "team-name": lambda world: {"name": f"{world.team.name} too"},
    "invitation-new": lambda world: {"role": "viewer"},
    "invitation-revoke": lambda world: {},
    "hub-token": lambda world: {"value": "hf_x"},
    "hub-token-delete": lambda world: {},
    "judge-endpoint": lambda world: {"url": "https://api.example.com/v1", "model": "m", "key": "sk-x"},
    "judge-endpoint-delete": lambda world: {},
    "member-role": lambda world: {"role": "viewer"},
    "member-remove": lambda world: {},
    "first-run": lambda world: {},
    "project": lambda world: {"name": f"{world.project.name} too", "keep_last": "2", "best_mode": "min"},
    "project-switch": lambda world: {"project": world.project.pk},
    "launch": lambda world: {"launch": "yes", "method": "sft", **_sources(world)},
    "launch-check": lambda world: {"method": "sft", **_sources(world)},
    "launch-row": lambda world: {"method": "sft", "row": "1", "rows": "8", **_sources(world)},
    "recipe": lambda world: {"launch": "yes", **_slot_fields(world)},
    "pipeline-stop": lambda world: {},
    "pipeline-delete": lambda world: {},
    "pipeline-restart": lambda world: {"launch": "yes"},
    "sweep-new": lambda world: {"launch": "yes", "method": "sft", **_sources(world), **SWEPT},
    "sweep-stop": lambda world: {},
    "sweep-resume": lambda world: {},
    "sweep-delete": lambda world: {},
    "runs-bulk": lambda world: {"run": [world.run.pk], "action": "delete"},
    "run-views": lambda world: {"name": "new", "shared": "yes", "address": "q=tag:x&column=config.beta"},
    "run-view": lambda world: {"action": "delete"},
    "run-action": lambda world: {},
    "run-delete": lambda world: {},
    "run-dataset": lambda world: {"take": "chosen", "sample": _sample(world), **MADE_OF_ANSWERS},
    "run-edit": lambda world: {"name": "another"},
    "run-decision": lambda world: {"hypothesis": "another"},
    "alerts-seen": lambda world: {"alert": world.alert.pk},
    "alert-rule-new": lambda world: {"project": world.project.pk, "name": "another", "kind": "health"},
    "alert-rule-edit": lambda world: {"name": "another", "kind": "health"},
    "alert-rule-switch": lambda world: {"enabled": "no"},
    "alert-rule-test": lambda world: {},
    "alert-rule-delete": lambda world: {},
    "queue-pause": lambda world: {"paused": "yes"},
    "run-move": lambda world: {"past": world.second_run.pk, "place": "behind"},
    "worker-drain": lambda world: {"draining": "yes"},
    "dataset-delete": lambda world: {},
    "dataset-generate": lambda world: {"task": "gcd", "size": "2", "seed": "0"},
    "dataset-convert": lambda world: {"to": "prompt"},
    "dataset-split": lambda world: {"share": "0.2", "by": "random", "seed": "0"},
    "dataset-filter": lambda world: {"distinct": "on"},
    "dataset-mix": lambda world: {"part": _mixable(world), "weight": ["1", "1"], "seed": "0"},
    "dataset-edit": lambda world: {"name": "another", "origin": "unknown"},
    "dataset-card": lambda world: {"body": "another", "base": "0"},
    "dataset-card-preview": lambda world: {"body": "text"},
    "dataset-mapping": lambda world: {},
    "model-new": lambda world: {"hub_id": "org/model"},
    "model-delete": lambda world: {},
    "model-rename": lambda world: {"name": "another"},
    "model-retry": lambda world: {},
    "checkpoint-delete": lambda world: {},
    "checkpoint-register": lambda world: {},
    "share-new": lambda world: {"kind": "link"},
    "share-revoke": lambda world: {},
    "exports": lambda world: {"format": "gguf-q8_0"},
    "export-delete": lambda world: {},
    "parity": lambda world: {"prompts": "Why?"},
    "parity-delete": lambda world: {},
    "generation-stop": lambda world: {},
    "index-new": lambda world: {"dataset": world.index.dataset_version.dataset_id, **CUT},
    "index": lambda world: {"question": "Why?", "top_k": 2, "min_score": 0},
    "index-stop": lambda world: {},
    "index-resume": lambda world: {},
    "index-delete": lambda world: {},
    "workbench": lambda world: {"source": f"run:{world.run.pk}", "config.rewards.length": "1"},
    "reward-trial-stop": lambda world: {},
    "reward-trial-pin": lambda world: {"name": "another", "project": world.project.pk},
    "compare-share": lambda world: {"address": f"run={world.run.pk}&run={world.second_run.pk}", "days": "7"},
    "report-new": lambda world: {"title": "another", "project": world.project.pk},
    "report-edit": lambda world: {"title": "another", "body": "text", "base": "1"},
    "report-preview": lambda world: {"body": "text"},
    "report-restore": lambda world: {"version": "1"},
    "report-delete": lambda world: {},
    "report-share": lambda world: {"days": "7"},
    "link-end": lambda world: {},
    "playground": lambda world: {"left": world.checkpoint.pk, "prompt": "1 + 1 =", **GENERATION},
}

REWARDS = {"length": 1}
SWEPT = {"vary.0.path": "seed", "vary.0.values": "1, 2", "max_trials": "2", "metric": "eval/loss"}
MADE_OF_ANSWERS = {"format": "prompt-completion", "name": "more answers"}
CUT = {"chunk_tokens": 32, "overlap": 0}
GENERATION = {"max_new_tokens": 8, "temperature": 1, "top_p": 1, "seed": 0}
PREFLIGHT = {"method": "sft", "config": {"max_steps": 2}}

BODIES: dict[str, Given] = {
    "POST /runs": lambda world: {"method": "sft", **_sources(world)},
    "POST /runs/preflight": lambda world: {**PREFLIGHT, **_sources(world)},
    "PATCH /runs/{run_id}": lambda world: {"name": "another"},
    "POST /alerts/seen": lambda world: {"alerts": [str(world.alert.pk)]},
    "POST /alert-rules": lambda world: {"project": str(world.project.pk), "name": "another", "kind": "health"},
    "PATCH /alert-rules/{rule_id}": lambda world: {"name": "another"},
    "POST /runs/{run_id}/move": lambda world: {"past": str(world.second_run.pk), "place": "behind"},
    "POST /workers/{worker_id}/drain": lambda world: {"draining": True},
    "POST /runs/{run_id}/dataset": lambda world: {"samples": [_sample(world)], **MADE_OF_ANSWERS},
    "POST /runs/{run_id}/clone": lambda world: {"name": "another"},
    "PATCH /projects/{project_id}": lambda world: {"retention": {"keep_last": 2}},
    "POST /datasets": lambda world: {"name": "more rows"},
    "POST /datasets/generate": lambda world: {"task": "gcd", "size": 2},
    "PATCH /datasets/{dataset_id}": lambda world: {"name": "another"},
    "PATCH /datasets/{dataset_id}/card": lambda world: {"version": 0, "body": "another"},
    "POST /datasets/{dataset_id}/remap": lambda world: {},
    "POST /datasets/{dataset_id}/convert": lambda world: {"to": "prompt"},
    "POST /datasets/{dataset_id}/split": lambda world: {"share": 0.2},
    "POST /datasets/{dataset_id}/filter": lambda world: {"distinct": True},
    "POST /datasets/mix": lambda world: {"parts": [{"dataset": pk} for pk in _mixable(world)]},
    "POST /models": lambda world: {"hub_id": "org/model"},
    "PATCH /models/{model_id}": lambda world: {"name": "another"},
    "POST /checkpoints/{checkpoint_id}/register": lambda world: {},
    "POST /checkpoints/{checkpoint_id}/share": lambda world: {"link": True},
    "POST /checkpoints/{checkpoint_id}/exports": lambda world: {"format": "gguf-q8_0"},
    "POST /checkpoints/{checkpoint_id}/parity": lambda world: {"prompts": ["Why?"]},
    "POST /run-views": lambda world: {"name": "another", "shared": True, "query": "tag:x"},
    "PATCH /run-views/{view_id}": lambda world: {"name": "another"},
    "POST /reward-trials": lambda world: {"run": str(world.run.pk), "rewards": REWARDS},
    "POST /reward-lists": lambda world: {"name": "another", "project": str(world.project.pk), "rewards": REWARDS},
    "POST /pipelines": lambda world: {"recipe": "instructgpt", "datasets": _slots(world), "models": _base(world)},
    "POST /pipelines/{pipeline_id}/restart": lambda world: {"stage": "sft"},
    "POST /sweeps": lambda world: {
        **{"method": "sft", "space": {"seed": [1, 2]}, "metric": "eval/loss", "max_trials": 2},
        **_sources(world),
    },
    "POST /indexes": lambda world: {"dataset": str(world.index.dataset_version.dataset_id), "settings": CUT},
    "POST /indexes/{index_id}/lookups": lambda world: {"question": "Why?"},
    "POST /reports": lambda world: {"project": str(world.project.pk), "title": "another"},
    "PATCH /reports/{report_id}": lambda world: {"version": 1, "title": "another"},
    "POST /reports/{report_id}/restore": lambda world: {"version": 1},
    "POST /view-links": lambda world: {"report": str(world.report.pk)},
    "POST /generations": lambda world: {"models": [str(world.checkpoint.pk)], "prompt": "1 + 1 ="},
}
FILES: dict[str, Given] = {"POST /datasets": lambda world: {"file": SimpleUploadedFile("rows.jsonl", UPLOAD)}}
QUERIES: dict[str, Given] = {
    "GET /compare": lambda world: {"run": [world.run.pk, world.second_run.pk], "key": "loss"},
    "GET /compare/settings": lambda world: {"run": [world.run.pk, world.second_run.pk], "metric": "loss"},
}

# --- what is expected beyond the rules --------------------------------------------------------------------------------

# Things that belong to one person rather than to a team: to everybody else they are not there.
PERSONAL = {"token-revoke": "member"}
# What asks for more than its gate does, or than other writes do, in the object's own team.
STRICTER = {"member-remove": Role.ADMIN, "run-view": Role.MEMBER, "PATCH /projects/{project_id}": Role.ADMIN}
# What acts on things that all teams share: for admins of the studio's first team alone, which the world's team is.
SHARED = {
    "queue-pause",
    "worker-drain",
    "POST /queue/pause",
    "POST /queue/resume",
    "POST /workers/{worker_id}/drain",
}
# What a valid request of somebody with every right is answered with where the world's objects are in no state for it.
REFUSALS = {
    "sign-in": 422,
    "account-password": 422,
    "dataset-delete": 409,
    "dataset-mapping": 422,
    "model-delete": 409,
    "model-retry": 409,
    "pipeline-delete": 409,
    "sweep-resume": 409,
    "sweep-delete": 409,
    "POST /models/{model_id}/retry": 409,
    "POST /runs/{run_id}/resume": 409,
    "POST /indexes/{index_id}/resume": 409,
    "DELETE /datasets/{dataset_id}": 409,
    "DELETE /models/{model_id}": 409,
    "DELETE /pipelines/{pipeline_id}": 409,
    "POST /sweeps/{sweep_id}/resume": 409,
    "DELETE /sweeps/{sweep_id}": 409,
    "POST /pipelines/{pipeline_id}/restart": 409,
}
# A look that takes a POST.
READS = {"POST /runs/preflight"}


def _pk(world: World, person: str) -> Any:
    return world.people[person].pk


def _sample(world: World) -> int:
    return world.run.samples.get().pk


def _image(world: World) -> str:
    """An image among those of the dataset."""
    name = f"{'0' * 64}.png"
    with tempfile.NamedTemporaryFile() as file:
        artifacts.put(Path(file.name), f"{images_key(world.dataset.versions.get().rows_key)}/{name}")
    return name


def _sources(world: World) -> dict[str, str]:
    return {"model": str(world.model.pk), "dataset": str(world.dataset.pk)}


def _slots(world: World) -> dict[str, str]:
    """The datasets of the pipeline, by slot."""
    stages = zip(("demonstrations", "comparisons", "prompts"), world.pipeline.stages.order_by("place"), strict=True)
    return {slot: str(stage.dataset_version.dataset_id) for slot, stage in stages}


def _slot_fields(world: World) -> dict[str, str]:
    return {f"datasets.{slot}": pk for slot, pk in _slots(world).items()} | {"models.base": str(world.model.pk)}


def _mixable(world: World) -> list[str]:
    """Two datasets of one format: the world's, and the one that its pipeline begins with."""
    return [str(world.dataset.pk), _slots(world)["demonstrations"]]


def _base(world: World) -> dict[str, str]:
    return {"base": str(world.model.pk)}


@pytest.fixture(scope="module")
def made_world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """Made once: what a test does to it happens within this transaction, and is taken back after each."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


@pytest.fixture
def world(made_world: World, db: None) -> World:
    return made_world


def _check_callers(world: World, check: Callable[[str], None]) -> None:
    """Everybody in turn: first those who may change nothing, then those who may, each in an unchanged world."""
    before = world.state()
    for caller in POWERLESS:
        check(caller)
    assert world.state() == before, f"one of {', '.join(POWERLESS)} changes what the team owns"
    for caller in POWERFUL:
        with transaction.atomic():
            check(caller)
            transaction.set_rollback(True)


def _content(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def _check_secrecy(world: World, caller: str, status: int, content: bytes) -> None:
    """Nobody outside the team reads of its things. (A refusal may repeat the ids that the caller asked with.)"""
    if caller not in NOT_OF_THE_TEAM:
        return
    marks = world.marks() if status < 300 else world.marks()[:1]
    assert not [mark for mark in marks if mark in content], f"{caller} is shown the team's things"


def test_the_tables_name_only_what_there_is() -> None:
    known = {view.name for view in pages()} | {operation.name for operation in operations()}
    assert {*FORMS, *BODIES, *FILES, *QUERIES, *PERSONAL, *STRICTER, *SHARED, *REFUSALS, *READS} <= known


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", pages(), ids=lambda view: view.route or "home")
def test_a_page_says_who_may_open_it(view: Page) -> None:
    assert view.access is not None, "mark the view with public, signed_in or requires(Role.X)"


def test_what_pages_are_open_to_strangers_is_listed() -> None:
    public = {view.name for view in pages() if view.access is not None and view.access.public}
    assert public == {"sign-in", "sign-in-link", "join", "share", "share-download", "shared-view", "shared-data"}


@pytest.mark.parametrize("view", pages(), ids=lambda view: view.route or "home")
def test_a_page_lets_in_whom_it_may(world: World, view: Page) -> None:
    path = view.path({name: str(page_value(world, view, name)) for name in view.parameters})
    browsers = {
        caller: browser(world.people.get(caller), raise_request_exception=False) for caller in POWERLESS + POWERFUL
    }

    def check(caller: str) -> None:
        for method in ("GET", "POST"):
            answer = _call_page(browsers[caller], method, path, view, world)
            _check_page(world, view, method, caller, answer)
            _check_secrecy(world, caller, answer.status_code, _content(answer))

    _check_callers(world, check)


def page_value(world: World, page: Page, name: str) -> Any:
    begins = [place for place, parameter in PAGE_OBJECTS if parameter == name and page.route.startswith(place)]
    assert begins, f"give PAGE_OBJECTS a {name} for {page.route}"
    return PAGE_OBJECTS[max(begins, key=len), name](world)


def _call_page(client: Client, method: str, path: str, page: Page, world: World) -> Any:
    if method == "GET":
        return client.get(path)
    return client.post(path, FORMS[page.name](world) if page.name in FORMS else {})


def _check_page(world: World, page: Page, method: str, caller: str, answer: Any) -> None:
    status, said = answer.status_code, f"{caller} gets {answer.status_code}"
    assert status < 500, said
    assert page.access is not None
    if page.access.public:
        return
    if caller == "stranger":
        assert status == 302, said
        assert answer.url.startswith(SIGN_IN)
        return
    assert not getattr(answer, "url", "").startswith(SIGN_IN), said
    needed = page.access.role
    if needed is not None and not _holds_somewhere(world, caller, needed):
        assert status == 403, said
    elif status == 405:
        assert not (method == "POST" and page.name in FORMS), "FORMS has a form for a page that takes none"
    elif page.name in PERSONAL:
        assert status == 404 or caller == PERSONAL[page.name], said
    elif method == "POST" and page.name in SHARED and not _holds_here(caller, Role.ADMIN):
        assert status == 403, said
    elif set(page.parameters) - NO_PROPERTY and page.name not in SHARED:
        _check_object_page(page, method, caller, status)
    elif caller == "admin":
        _check_success(page.name, method, status)


def _check_object_page(page: Page, method: str, caller: str, status: int) -> None:
    needed = STRICTER.get(page.name) or (page.access.role if page.access else None)
    if caller in NOT_OF_THE_TEAM:
        assert status == 404, f"{caller} gets {status} for another team's thing"
    elif needed is not None and not _holds_here(caller, needed):
        assert status == 403, f"{caller} gets {status} without being {needed} of the team"
    elif caller == "admin":
        _check_success(page.name, method, status)


def _check_success(name: str, method: str, status: int) -> None:
    """Somebody with every right gets there with what the tables send: it is not for its faults that others fail."""
    assert method == "GET" or name in FORMS, f"give FORMS something valid to send to {name}"
    expected = {REFUSALS[name]} if method == "POST" and name in REFUSALS else {200, 201, 204, 302}
    assert status in expected, f"an admin gets {status}"


def _holds_here(caller: str, role: Role) -> bool:
    here = {"viewer": Role.VIEWER, "guest": Role.VIEWER, "member": Role.MEMBER, "admin": Role.ADMIN}
    return caller in here and here[caller].includes(role)


def _holds_somewhere(world: World, caller: str, role: Role) -> bool:
    return caller in world.people and Actor(world.people[caller]).holds(role)


# --- the API ----------------------------------------------------------------------------------------------------------


def test_the_api_s_description_leaves_nothing_out() -> None:
    described = {operation.route.replace("{", "<").replace("}", ">") for operation in operations()}
    own = {"/", "/openapi.json", "/docs"}
    found = {"/" + route.removeprefix(API_PREFIX) for route, _ in url_patterns() if route.startswith(API_PREFIX)}
    assert {re.sub(r"<\w+:", "<", route) for route in found} - own == described


def test_what_operations_are_open_to_strangers_is_listed() -> None:
    assert {operation.name for operation in operations() if operation.public} == {"GET /health"}


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)
def test_an_operation_lets_in_whom_it_may(world: World, operation: Operation) -> None:
    if operation.name in READS:
        _answer_preflight(world)
    path = _api_path(world, operation)
    clients = {caller: api_client_of(world.people.get(caller)) for caller in POWERLESS + POWERFUL}

    def check(caller: str) -> None:
        answer = _call(clients[caller], operation, path, world)
        content = _content(answer)
        _check_operation(world, operation, caller, answer.status_code, content)
        _check_secrecy(world, caller, answer.status_code, content)

    _check_callers(world, check)


def _answer_preflight(world: World) -> None:
    """Have the answer ready that a worker would give."""
    asked = preflight_request(actor=Actor(world.people["member"]), **PREFLIGHT, **_sources(world))
    preflight_finish(preflight_id=str(asked.pk), report={"rows_total": 8})


def _api_path(world: World, operation: Operation) -> str:
    missing = [name for name in operation.parameters if name not in API_OBJECTS]
    assert not missing, f"give API_OBJECTS a {missing[0]}"
    return operation.path({name: str(API_OBJECTS[name](world)) for name in operation.parameters})


def _call(client: ApiClient, operation: Operation, path: str, world: World) -> Any:
    assert not operation.takes_body or operation.name in BODIES, f"give BODIES something valid for {operation.name}"
    if operation.method in {"GET", "HEAD"}:
        return client.get(path, QUERIES[operation.name](world) if operation.name in QUERIES else None)
    body = BODIES[operation.name](world) if operation.name in BODIES else None
    if operation.name in FILES:
        return client.post(path, form=body, files=FILES[operation.name](world))
    if operation.method == "DELETE":
        return client.delete(path)
    send = {"POST": client.post, "PUT": client.put, "PATCH": client.patch}[operation.method]
    return send(path, body)


def _check_operation(world: World, operation: Operation, caller: str, status: int, content: bytes) -> None:
    said = f"{caller} gets {status}: {content[:200]!r}"
    assert status < 500, said
    if operation.public:
        assert status == 200, said
    elif caller == "stranger":
        assert status == 401, said
    elif operation.name in SHARED and not _holds_here(caller, Role.ADMIN):
        assert status == 403, said
    elif set(operation.parameters) - NO_PROPERTY and operation.name not in SHARED:
        _check_object_operation(operation, caller, status, said)
    elif caller in {"viewer", "loner"} and operation.method not in {"GET", "HEAD"} and operation.name not in READS:
        assert status in {403, 422}, said
    elif caller == "admin":
        assert status in {200, 201, 202, 204}, said


def _check_object_operation(operation: Operation, caller: str, status: int, said: str) -> None:
    reads = operation.method in {"GET", "HEAD"}
    if caller in NOT_OF_THE_TEAM:
        assert status == 404, said
    elif not reads and not _holds_here(caller, STRICTER.get(operation.name, Role.MEMBER)):
        assert status == 403, said
    elif caller in {"member", "admin"} or reads:
        expected = {REFUSALS[operation.name]} if operation.name in REFUSALS else {200, 201, 202, 204}
        assert status in expected | ({403} if reads and caller in {"viewer", "guest"} else set()), said


def test_nothing_but_a_valid_token_opens_the_api(world: World) -> None:
    member, admin = world.people["member"], world.people["admin"]
    guarded = [operation for operation in operations() if not operation.public]
    for token in ("", "polm_" + "x" * 43, "x" * 5000, _revoked(member), _retired(admin)):
        client = ApiClient(token)
        answers = {one.name: _call(client, one, _api_path(world, one), world).status_code for one in guarded}
        assert answers == dict.fromkeys(answers, 401)


def _revoked(user: User) -> str:
    token, text = services.token_create(actor=Actor(user), name="revoked")
    services.token_revoke(actor=Actor(user), token_id=token.pk)
    return text


def _retired(user: User) -> str:
    """A good token whose owner's account was closed."""
    text = services.token_create(actor=Actor(user), name="good")[1]
    User.objects.filter(pk=user.pk).update(is_active=False)
    return text


def test_a_session_alone_writes_nothing_through_the_api(world: World) -> None:
    """Another site can make a browser send its cookies, not read the CSRF token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.people["admin"])
    before = world.state()
    answers = {}
    for operation in operations():
        if operation.method not in {"GET", "HEAD"}:
            path = "/" + API_PREFIX + _api_path(world, operation).lstrip("/")
            answers[operation.name] = client.generic(operation.method, path, "{}", "application/json").status_code
    assert answers == dict.fromkeys(answers, 403)
    assert world.state() == before
