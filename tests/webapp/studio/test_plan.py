"""What each role runs, and which services it starts itself."""

from pathlib import Path

import pytest
from pytest_django import Settings

from webapp.studio import checks
from webapp.studio.embedded import default_broker_url, default_database_url
from webapp.studio.plan import CannotStart, Plan, Role, embedded_servers, programs
from workers.watchdog import Policy

REAL = {"DATABASE_URL": "postgresql://app@db.example.org/studio", "BROKER_URL": "redis://broker.example.org:6379/0"}


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (Role.ALL, ["web", "scheduler", "worker-runs", "worker-light"]),
        (Role.WEB, ["web"]),
        (Role.WORKER, ["worker-runs", "worker-light"]),
        (Role.SCHEDULER, ["scheduler"]),
    ],
)
def test_each_role_has_its_programs(role: Role, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLM_WORKER_QUEUES", raising=False)
    assert [program.name for program in programs(Plan(role), 8000)] == names


def test_a_machine_may_serve_some_queues_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLM_WORKER_QUEUES", "runs, ")
    assert [program.name for program in programs(Plan(Role.WORKER), 0)] == ["worker-runs"]


def test_workers_stop_after_those_that_give_them_work() -> None:
    stages = {program.name: program.stage for program in programs(Plan(), 8000)}
    assert max(stages["web"], stages["scheduler"]) < min(stages["worker-runs"], stages["worker-light"])


def test_the_web_process_writes_no_addresses_to_its_log() -> None:
    web = programs(Plan(host="10.0.0.5"), 8123)[0].command
    assert "--no-access-log" in web
    assert [web[web.index(option) + 1] for option in ("--host", "--port")] == ["10.0.0.5", "8123"]


@pytest.mark.parametrize("real", [{"DATABASE_URL"}, {"BROKER_URL"}, set(REAL)])
def test_only_services_without_a_real_server_are_embedded(var: Path, settings: Settings, real: set[str]) -> None:
    settings.DATABASE_URL = REAL["DATABASE_URL"] if "DATABASE_URL" in real else default_database_url(var)
    settings.BROKER_URL = REAL["BROKER_URL"] if "BROKER_URL" in real else default_broker_url(var)
    titles = {server.title for server in embedded_servers(Plan(), var)}
    expected = {"DATABASE_URL": "Postgres", "BROKER_URL": "Valkey"}
    assert titles == {title for name, title in expected.items() if name not in real}


def test_without_embedded_services_the_real_ones_must_be_named(var: Path, settings: Settings) -> None:
    settings.DATABASE_URL, settings.BROKER_URL = REAL["DATABASE_URL"], default_broker_url(var)
    with pytest.raises(CannotStart, match="set BROKER_URL to the real"):
        embedded_servers(Plan(embedded=False), var)
    settings.BROKER_URL = REAL["BROKER_URL"]
    assert embedded_servers(Plan(embedded=False), var) == []


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("DATABASE_URL", "sqlite:///file", "E001"),
        ("BROKER_URL", "amqp://host", "E002"),
        ("ARTIFACT_URL", "/srv/artifacts", "E003"),
    ],
)
def test_a_setting_that_cannot_work_is_reported(settings: Settings, name: str, value: str, number: str) -> None:
    setattr(settings, name, value)
    (found,) = checks.check_environment()
    assert found.id == f"studio.{number}"
    assert "Write it like" in found.hint


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("STALL_SECONDS", "0", "E005"),
        ("STALL_SECONDS", "soon", "E005"),
        ("STALL_POLICY", "hope", "E006"),
    ],
)
def test_how_stalls_are_met_is_checked(settings: Settings, name: str, value: str, number: str) -> None:
    setattr(settings, name, value)
    (found,) = checks.check_environment()
    assert found.id == f"studio.{number}"
    assert found.hint


def test_every_policy_that_may_be_set_is_known_to_workers() -> None:
    assert set(checks.STALL_POLICIES) == set(Policy)


@pytest.mark.parametrize(("slots", "problems"), [("1", 0), ("8", 0), ("0", 1), ("two", 1), ("", 1)])
def test_slots_are_a_number(monkeypatch: pytest.MonkeyPatch, slots: str, problems: int) -> None:
    monkeypatch.setenv("POLM_SLOTS", slots)
    assert len(checks.check_environment()) == problems


@pytest.mark.django_db
def test_a_database_without_pgvector_is_told_of_before_anything_is_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_pgvector(databases=["default"]) == []
    monkeypatch.setattr(checks, "VECTOR", "no_such_extension")
    (found,) = checks.check_pgvector(databases=["default"])
    assert found.id == "studio.E007"
    assert found.hint is not None
    assert "Install pgvector" in found.hint
