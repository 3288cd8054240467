"""Dockerfile, compose.yaml and Makefile hold together; nothing here needs Docker."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = ("web", "scheduler", "worker")
SECRETS = ("SECRET_KEY", "POSTGRES_PASSWORD")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((REPOSITORY / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def stages() -> dict[str, tuple[str, list[str]]]:
    """Each stage's parent and own instructions."""
    text = re.sub(r"\\\n\s*", " ", (REPOSITORY / "Dockerfile").read_text())
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if start := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[start[2]] = (start[1], [])
        elif not line.startswith("#"):
            next(reversed(found.values()))[1].append(line)
    return found


def instructions(stages: dict[str, tuple[str, list[str]]], target: str) -> list[str]:
    """Everything that goes into a target, its ancestors' first."""
    parent, own = stages[target]
    return [*(instructions(stages, parent) if parent in stages else []), *own]


def test_the_web_image_installs_nothing_to_train_with(stages: dict) -> None:
    installs = [line for line in instructions(stages, "web") if "pip install" in line]
    assert any("webapp/requirements.txt" in line for line in installs)
    assert not any("workers/requirements.txt" in line or "torch" in line for line in installs)


def test_the_worker_image_installs_what_make_installs(stages: dict) -> None:
    installs = " ".join(line for line in instructions(stages, "worker") if "pip install" in line)
    assert "webapp/requirements.txt" in installs
    assert "workers/requirements.txt" in installs
    assert "--no-deps -r workers/requirements-no-deps.txt" in installs
    assert "--no-deps -r workers/requirements-no-deps.txt" in (REPOSITORY / "Makefile").read_text()
    for made in (installs, (REPOSITORY / "Makefile").read_text()):
        assert re.search(r"--target \S*.*gguf-converter\S*[\s\\]+-r workers/requirements-gguf.txt", made)


@pytest.mark.parametrize("target", ["web", "worker"])
def test_images_run_without_privileges_and_report_their_health(stages: dict, target: str) -> None:
    own = instructions(stages, target)
    users = [line.split()[1] for line in own if line.startswith("USER")]
    assert users[-1:] == ["polm"]
    assert any(line.startswith("HEALTHCHECK") for line in own)
    assert own[-1].startswith("CMD [")


def test_what_images_copy_exists_and_the_context_lets_it_through(stages: dict) -> None:
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().split() if line.startswith("!")}
    assert {"manage.py", "polm_core", "webapp", "workers", "templates", "static", "docs/proof.json"} == allowed
    for _, lines in stages.values():
        for source in (line.split()[1] for line in lines if line.startswith("COPY")):
            assert (REPOSITORY / source).exists()


def test_no_image_floats(compose: dict, stages: dict) -> None:
    bases = [parent for parent, _ in stages.values() if parent not in stages]
    images = [service["image"] for service in compose["services"].values() if "image" in service]
    for image in bases + images:
        name, _, tag = image.partition(":")
        assert tag not in {"", "latest"}, name


def test_every_service_has_its_place(compose: dict, stages: dict) -> None:
    services = compose["services"]
    assert set(services) == {*PROGRAMS, "postgres", "valkey"}
    for name in PROGRAMS:
        assert services[name]["build"]["target"] in stages
        assert all(service in services for service in services[name]["depends_on"])
    for service in services.values():
        assert service["healthcheck"]["test"]
    used = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert used == set(compose["volumes"])


def test_only_the_web_service_is_published(compose: dict) -> None:
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["web"]


def test_secrets_have_no_defaults() -> None:
    text = (REPOSITORY / "compose.yaml").read_text()
    for secret in SECRETS:
        uses = re.findall(r"\$\{" + secret + r"(.*?)\}", text)
        assert uses, secret
        assert all(use.startswith(":?") for use in uses), secret


def test_commands_are_ones_that_manage_py_knows(compose: dict, stages: dict) -> None:
    from django.core.management import load_command_class

    parser = load_command_class("webapp.studio", "studio").create_parser("manage.py", "studio")
    commands = [service["command"] for name, service in compose["services"].items() if name == "scheduler"]
    commands += [yaml.safe_load(stages[target][1][-1].removeprefix("CMD ")) for target in ("web", "worker")]
    for command in commands:
        assert command[:3] == ["python", "manage.py", "studio"]
        parser.parse_args(command[3:])


def test_make_names_its_commands() -> None:
    shown = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\S+)", shown, re.MULTILINE) == [
        "help",
        "install",
        "run",
        "test",
        "bench",
        "chaos",
        "proof",
        "soak",
        "docs",
        "lint",
        "fmt",
    ]


def test_a_changed_requirement_means_another_installation(tmp_path: Path) -> None:
    run = (
        "requirements.txt",
        "webapp/requirements.txt",
        "workers/requirements.txt",
        "workers/requirements-no-deps.txt",
        "workers/requirements-gguf.txt",
    )
    for name in (*run, "tests/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one==1\n")

    def stamps() -> set[str]:
        command = ["make", "-pn", "-f", str(REPOSITORY / "Makefile"), "help"]
        database = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"\.installed-(?:for-tests-)?\d+", database))

    before = stamps()
    assert len(before) == 2
    assert stamps() == before
    for name in run:
        (tmp_path / name).write_text("one==2\n")
        after = stamps()
        assert not after & before
        before = after
