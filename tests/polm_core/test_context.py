"""`config.yaml`, and the files a run writes."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from polm_core.context import PREEMPTED, Ending, InterruptedRun, RunContext, RunSpec, dump_spec, finite, load_spec
from polm_core.errors import ConfigError
from polm_core.run_dir import Outcome, RunDir, Wish

SPEC = "method: sft\nmodel: {path: /m}\ndataset: {path: /d.jsonl, format: conversation}\n"


def spec_file(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def run_context(tmp_path: Path) -> Iterator[RunContext]:
    with RunContext(RunDir(tmp_path / "run"), load_spec(spec_file(tmp_path, SPEC))) as context:
        yield context


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("method: sft", "model: Field required"),
        (SPEC + "colour: red", "colour: Extra inputs are not permitted"),
        (SPEC.replace("{path: /m}", "{path: /m, hub_id: a/b}"), "give either path or hub_id"),
        (SPEC.replace("{path: /m}", "{}"), "give either path or hub_id"),
        (SPEC.replace("conversation", "letters"), "dataset.format"),
        (SPEC + "held_out: 0.9", "held_out"),
    ],
)
def test_a_config_that_describes_no_run_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_spec(spec_file(tmp_path, text))
    assert words in caught.value.message


def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_spec(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_spec(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("a" * 2_000_000)
    with pytest.raises(ConfigError, match="over 1 MB"):
        load_spec(tmp_path / "config.yaml")


def test_a_written_config_reads_back_the_same(tmp_path: Path) -> None:
    spec = load_spec(spec_file(tmp_path, SPEC + "config: {learning_rate: 1e-6}\nresume: /r\n"))
    assert load_spec(spec_file(tmp_path, dump_spec(spec))) == spec


def test_relative_paths_are_taken_from_the_configs_folder(tmp_path: Path) -> None:
    spec = load_spec(spec_file(tmp_path, SPEC.replace("/m", "models/m").replace("/d.jsonl", "../d.jsonl")))
    assert spec.model.path == tmp_path / "models/m"
    assert spec.dataset.path == tmp_path / "../d.jsonl"


def test_a_model_is_called_by_its_source_unless_named() -> None:
    raw = {"method": "sft", "model": {"hub_id": "a/b"}, "dataset": {"path": "d", "format": "text"}}
    assert RunSpec.model_validate(raw).model.name == "a/b"
    assert RunSpec.model_validate({**raw, "model": {"hub_id": "a/b", "name": "c"}}).model.name == "c"


def test_metrics_keep_what_happened_even_nan(run_context: RunContext) -> None:
    run_context.log_metrics(1, {"loss": math.nan})
    run_context.log_metrics(2, {"loss": math.inf, "kl": 1.0})
    lines = [json.loads(line) for line in run_context.run_dir.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert math.isnan(lines[0]["values"]["loss"])
    assert math.isinf(lines[1]["values"]["loss"])
    assert finite(run_context.latest) == {"kl": 1.0}


def test_lines_are_there_as_soon_as_they_are_logged(run_context: RunContext) -> None:
    run_context.log_sample(3, "Why?", "Because\nso.", row=7, reference="No.")
    (line,) = run_context.run_dir.samples.read_text().splitlines()
    assert json.loads(line).items() >= {"step": 3, "prompt": "Why?", "completion": "Because\nso.", "row": 7}.items()


def test_a_torn_line_is_cut_off_before_more_is_written(tmp_path: Path, run_context: RunContext) -> None:
    run_context.log_metrics(1, {"loss": 1.0})
    with run_context.run_dir.metrics.open("a") as file:
        file.write('{"step": 2, "ti')
    with RunContext(run_context.run_dir, run_context.spec) as again:
        again.log_metrics(2, {"loss": 0.5})
    steps = [json.loads(line)["step"] for line in run_context.run_dir.metrics.read_text().splitlines()]
    assert steps == [1, 2]


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with RunContext(RunDir(tmp_path / "run"), load_spec(spec_file(tmp_path, SPEC))) as second:
        second.log_metrics(1, {"loss": 1.0})
        second.phase("training")
    assert not second.run_dir.metrics.exists()
    assert second.run_dir.read_progress() is None


def test_progress_is_what_was_last_told(run_context: RunContext) -> None:
    run_context.phase("training")
    for step in range(100):
        run_context.progress(step=step, total_steps=100, tokens=10 * step)
    run_context.phase("saving")
    progress = run_context.run_dir.read_progress()
    assert progress is not None
    assert (progress.step, progress.tokens, progress.phase) == (99, 990, "saving")


@pytest.mark.parametrize(("wish", "outcome"), [(Wish.STOP, Outcome.STOPPED), (Wish.PAUSE, Outcome.PAUSED)])
def test_a_wish_ends_the_run(run_context: RunContext, wish: Wish, outcome: Outcome) -> None:
    run_context.check()
    run_context.run_dir.ask(wish)
    with pytest.raises(InterruptedRun):
        run_context.check()
    assert run_context.ending == Ending(outcome)


def test_the_first_reason_to_end_stays(run_context: RunContext) -> None:
    run_context.ask(PREEMPTED)
    run_context.run_dir.ask(Wish.STOP)
    assert run_context.poll() is PREEMPTED
    assert run_context.poll() is PREEMPTED
