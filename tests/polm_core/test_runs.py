"""Whole runs: how they end, and what they leave."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polm_core.formats import Format
from polm_core.run import EXIT_CRASHED, EXIT_DISK_FULL, EXIT_FAILED, execute
from polm_core.run_dir import Outcome, Result, RunDir, Wish
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

LONG = {"max_steps": 100_000, "eval_steps": 0, "save_steps": 0}


def result_of(run_dir: RunDir) -> Result:
    result = run_dir.read_result()
    assert result is not None
    return result


def after_first_steps(run_dir: RunDir, act: Callable[[], None]) -> threading.Thread:
    """Do something to a run from outside once it has trained a few steps."""

    def watch() -> None:
        while not run_dir.metrics.exists() or run_dir.metrics.read_text().count('"loss"') < 3:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("wish", "outcome"), [(Wish.STOP, Outcome.STOPPED), (Wish.PAUSE, Outcome.PAUSED)])
@pytest.mark.parametrize(
    ("method", "format"),
    [
        ("sft", Format.CONVERSATION),
        ("dpo", Format.PREFERENCE),
        ("reward-model", Format.PREFERENCE),
        ("rloo", Format.PROMPT_ANSWER),
        ("dapo", Format.PROMPT_ANSWER),
        ("kto", Format.RATING),
        ("bco", Format.RATING),
        ("orpo", Format.PREFERENCE),
        ("cpo", Format.PREFERENCE),
    ],
)
def test_a_wish_ends_a_run_with_a_checkpoint(
    make_run: MakeRun, method: str, format: Format, wish: Wish, outcome: Outcome
) -> None:
    run_dir = make_run(method, format=format, **LONG)
    after_first_steps(run_dir, lambda: run_dir.ask(wish))
    assert execute(run_dir.root) == 0
    assert result_of(run_dir).outcome is outcome
    (checkpoint,) = run_dir.complete_checkpoints()
    assert checkpoint[1].step == max(points(run_dir, "loss")) < LONG["max_steps"]


def test_a_run_that_is_stopped_before_it_began_saves_nothing(make_run: MakeRun) -> None:
    run_dir = make_run("sft")
    run_dir.ask(Wish.STOP)
    assert execute(run_dir.root) == 0
    assert result_of(run_dir).outcome is Outcome.STOPPED
    assert run_dir.last_checkpoint() is None


def test_a_terminated_run_is_saved_and_says_it_was_preempted(make_run: MakeRun) -> None:
    run_dir = make_run("sft", **LONG)
    after_first_steps(run_dir, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert execute(run_dir.root) == 0
    result = result_of(run_dir)
    assert result.outcome is Outcome.PAUSED
    assert result.error is not None
    assert result.error["code"] == "preempted"
    assert run_dir.last_checkpoint() is not None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_paused_run_goes_on_to_the_same_end(make_run: MakeRun) -> None:
    settings: dict[str, Any] = {"max_steps": 40, "eval_steps": 0, "save_steps": 0}
    whole = make_run("sft", name="whole", **settings)
    assert execute(whole.root) == 0
    part = make_run("sft", name="part", **settings)
    after_first_steps(part, lambda: part.ask(Wish.PAUSE))
    assert execute(part.root) == 0
    paused_at = part.last_checkpoint()
    assert paused_at is not None
    assert paused_at != part.checkpoint(40)

    rows = tiny.conversations(24)
    going_on = make_run("sft", name="part", rows=rows, spec={"resume": str(paused_at)}, **settings)
    going_on.ask(Wish.RUN)
    assert execute(going_on.root) == 0
    assert points(going_on, "loss") == points(whole, "loss")
    digests = [
        {file.path: file.sha256 for file in manifest.files}["model.safetensors"]
        for _, manifest in (*list(going_on.complete_checkpoints())[-1:], *whole.complete_checkpoints())
    ]
    assert digests[0] == digests[1]


def test_resuming_from_the_last_step_changes_nothing(make_run: MakeRun) -> None:
    first = make_run("sft")
    assert execute(first.root) == 0
    again = make_run("sft", name="again", spec={"resume": str(first.checkpoint(4))})
    assert execute(again.root) == 0
    assert result_of(again).outcome is Outcome.SUCCEEDED
    assert again.metrics.read_text() == ""


def test_a_damaged_checkpoint_is_not_resumed(make_run: MakeRun) -> None:
    first = make_run("sft")
    assert execute(first.root) == 0
    (first.checkpoint(4) / "optimizer.pt").write_bytes(b"rubbish")
    again = make_run("sft", name="again", spec={"resume": str(first.checkpoint(4))})
    assert execute(again.root) == EXIT_FAILED
    assert result_of(again).error["code"] == "checkpoint.damaged"  # type: ignore[index]


def test_a_checkpoint_of_another_method_is_not_resumed(make_run: MakeRun) -> None:
    first = make_run("sft")
    assert execute(first.root) == 0
    other = make_run("lora", name="other", spec={"resume": str(first.checkpoint(4))})
    assert execute(other.root) == EXIT_FAILED
    assert "sft" in result_of(other).error["message"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": "sfd"}, "config.method"),
        ({"batch_size": 0}, "config.invalid"),
        ({"rows": [{"messages": 3}]}, "data.template"),
        ({"rows": []}, "data.empty"),
        ({"rows": [{"text": "a"}], "format": Format.TEXT}, "data.format"),
        ({"max_length": 8}, "data.untrained"),
        ({"devices": 1}, "resource.device"),
        ({"spec": {"model": {"path": "/nowhere"}}}, "model.missing"),
    ],
)
def test_what_cannot_run_fails_with_its_reason(make_run: MakeRun, change: dict[str, Any], code: str) -> None:
    run_dir = make_run(**{"method": "sft", **change})
    assert execute(run_dir.root) == EXIT_FAILED
    result = result_of(run_dir)
    assert result.outcome is Outcome.FAILED
    assert result.error is not None
    assert result.error["code"] == code
    assert result.error["message"]
    assert run_dir.last_checkpoint() is None


def test_pairs_whose_prompts_are_all_too_long_fail(make_run: MakeRun) -> None:
    run_dir = make_run("dpo", format=Format.PREFERENCE, max_length=8)
    assert execute(run_dir.root) == EXIT_FAILED
    assert result_of(run_dir).error["code"] == "data.untrained"  # type: ignore[index]


def test_an_unreadable_config_fails_too(tmp_path: Path) -> None:
    assert execute(tmp_path) == EXIT_FAILED
    assert result_of(RunDir(tmp_path)).error["code"] == "config.invalid"  # type: ignore[index]


def test_a_bug_is_a_crash_with_its_traceback_printed(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import trl

    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("something that cannot happen")

    monkeypatch.setattr(trl, "SFTTrainer", broken)
    run_dir = make_run("sft")
    assert execute(run_dir.root) == EXIT_CRASHED
    result = result_of(run_dir)
    assert result.outcome is Outcome.CRASHED
    assert "something that cannot happen" in result.error["message"]  # type: ignore[index]
    assert "Traceback" in capfd.readouterr().err


def test_a_full_disk_fails_the_run_and_leaves_no_half_checkpoint(make_run: MakeRun) -> None:
    """The limit on file size stands in for a full disk: the weights do not fit, the small files do."""
    run_dir = make_run("sft")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from polm_core.run import execute; from pathlib import Path; sys.exit(execute(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(run_dir.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_DISK_FULL, done.stderr
    assert result_of(run_dir).error["code"] == "resource.disk"  # type: ignore[index]
    assert list(run_dir.checkpoints.iterdir()) == []


def test_epochs_decide_when_no_steps_are_given(make_run: MakeRun) -> None:
    run_dir = make_run("sft", max_steps=0, epochs=2, spec={"held_out": 0})
    assert execute(run_dir.root) == 0
    assert sorted(points(run_dir, "loss")) == list(range(1, 13))
    assert points(run_dir, "epoch")[12] == pytest.approx(2)
    assert points(run_dir, "eval/loss") == {}
    assert samples(run_dir) == []


def test_each_thing_happens_when_it_is_due(make_run: MakeRun) -> None:
    run_dir = make_run("sft", max_steps=7, logging_steps=2, eval_steps=3, save_steps=5)
    assert execute(run_dir.root) == 0
    assert sorted(points(run_dir, "loss")) == [2, 4, 6, 7]
    assert sorted(points(run_dir, "eval/loss")) == [0, 3, 6, 7]
    assert [manifest.step for _, manifest in run_dir.complete_checkpoints()] == [5, 7]


def test_the_machine_is_measured(make_run: MakeRun) -> None:
    run_dir = make_run("sft")
    assert execute(run_dir.root) == 0
    assert points(run_dir, "system/rss_bytes")[4] > 1e8
    assert points(run_dir, "system/tokens_per_second")[4] > 0
    assert points(run_dir, "system/seconds_per_step")[4] > 0
    counts = points(run_dir, "num_tokens")
    assert counts[1] < counts[4]
    rows = points(run_dir, "samples")
    # There are 15: the last batch of an epoch is smaller.
    assert (rows[1], rows[4]) == (4, 15)


def test_samples_answer_the_same_held_out_prompts_each_time(make_run: MakeRun) -> None:
    run_dir = make_run("sft", generation={"samples": 2, "max_new_tokens": 4, "do_sample": True, "temperature": 1.5})
    assert execute(run_dir.root) == 0
    found = samples(run_dir)
    assert [(sample["step"], sample["row"]) for sample in found] == [(0, 0), (0, 1), (4, 0), (4, 1)]
    assert found[0]["prompt"] == found[2]["prompt"]
    assert "=" in found[0]["reference"]


def test_sampling_changes_nothing_about_the_training(make_run: MakeRun) -> None:
    quiet = make_run("sft", name="quiet", generation={"samples": 0})
    talking = make_run("sft", name="talking", generation={"samples": 4, "max_new_tokens": 4, "do_sample": True})
    assert execute(quiet.root) == execute(talking.root) == 0
    assert points(quiet, "loss") == points(talking, "loss")


def test_long_prompts_are_answered_from_their_end(make_run: MakeRun) -> None:
    turns = [{"role": "user", "content": "7 " * 2000}, {"role": "assistant", "content": "no"}]
    held_out = eval_set(make_run, [{"messages": turns}, *tiny.conversations(1)])
    run_dir = make_run("sft", max_length=128, spec={"eval_dataset": held_out})
    assert execute(run_dir.root) == 0
    assert {sample["step"] for sample in samples(run_dir)} == {0, 4}


def eval_set(make_run: MakeRun, rows: list[Any]) -> dict[str, str]:
    path = make_run("sft", name="held-out", rows=rows).root.parent / "held-out.jsonl"
    return {"path": str(path), "format": "conversation"}


def test_a_loss_that_is_not_a_number_is_told_as_such(make_run: MakeRun, tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.layers[0].mlp.up_proj.weight.data.fill_(math.nan)
    model.save_pretrained(tmp_path / "nan")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "nan")
    run_dir = make_run("sft", spec={"model": {"path": str(tmp_path / "nan")}})
    assert execute(run_dir.root) == 0
    assert all(math.isnan(loss) for loss in points(run_dir, "loss").values())
    assert "loss" not in result_of(run_dir).metrics


def test_learning_shows_on_held_out_rows(make_run: MakeRun) -> None:
    run_dir = make_run("sft", rows=tiny.conversations(100), max_steps=60, learning_rate=5e-3)
    assert execute(run_dir.root) == 0
    held_out = points(run_dir, "eval/loss")
    assert held_out[60] < held_out[0] - 1


def test_preferences_are_learned(make_run: MakeRun) -> None:
    rows = tiny.preferences(100)
    run_dir = make_run(
        "dpo", rows=rows, format=Format.PREFERENCE, max_steps=40, adapter={"type": "lora"}, learning_rate=1e-2
    )
    assert execute(run_dir.root) == 0
    assert points(run_dir, "eval/rewards/accuracies")[40] > 0.9
    assert points(run_dir, "eval/rewards/margins")[40] > 0.1


def test_packing_fills_sequences(make_run: MakeRun) -> None:
    loose = make_run("sft", name="loose", max_steps=0, generation={"samples": 0})
    packed = make_run("sft", name="packed", max_steps=0, packing=True, max_length=256, generation={"samples": 0})
    assert execute(loose.root) == execute(packed.root) == 0
    assert max(points(packed, "loss")) < max(points(loose, "loss"))


@pytest.mark.parametrize("settings", [{"loss": "dft"}, {"neftune_noise_alpha": 5}, {"gradient_checkpointing": True}])
def test_options_of_fine_tuning_train(make_run: MakeRun, settings: dict[str, Any]) -> None:
    run_dir = make_run("sft", adapter={"type": "lora"}, **settings)
    assert execute(run_dir.root) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
        {"divergence": "js_divergence"},
        {"loss": "aot", "precision": "bf16"},
        {"chat_template": False},
    ],
)
def test_options_of_preference_optimisation_train(make_run: MakeRun, settings: dict[str, Any]) -> None:
    rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": " no"} for n in range(20)]
    run_dir = make_run("dpo", rows=rows, format=Format.PREFERENCE, **settings)
    assert execute(run_dir.root) == 0


@pytest.mark.parametrize(("method", "format"), [("sft", Format.CONVERSATION), ("dpo", Format.PREFERENCE)])
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_a_run_starts_from_an_adapter_and_resumes(
    make_run: MakeRun, tiny_model: Path, method: str, format: Format, adapter: str
) -> None:
    first = make_run("lora", name="first")
    assert execute(first.root) == 0
    start = {"model": {"path": str(tiny_model), "adapter": str(first.checkpoint(4)), "name": "tiny"}}
    settings: dict[str, Any] = {"format": format, "adapter": {"type": adapter}, "save_steps": 2}
    second = make_run(method, name="second", spec=start, **settings)
    assert execute(second.root) == 0
    (_, half), (folder, whole) = second.complete_checkpoints()
    assert whole.kind == half.kind == ("adapter" if adapter == "lora" else "model")
    assert not (folder / "ref").exists()

    third = make_run(method, name="third", spec={**start, "resume": str(second.checkpoint(2))}, **settings)
    assert execute(third.root) == 0
    assert points(third, "loss")[4] == points(second, "loss")[4]


def test_a_four_bit_model_trains_in_every_layer_after_an_evaluation(make_run: MakeRun) -> None:
    from safetensors.numpy import load_file

    run_dir = make_run("qlora")
    assert execute(run_dir.root) == 0
    weights = load_file(run_dir.checkpoint(4) / "adapter_model.safetensors")
    untrained = [name for name, value in weights.items() if "lora_B" in name and not value.any()]
    assert not untrained


def test_a_checkpoint_holds_no_pickled_settings(make_run: MakeRun) -> None:
    run_dir = make_run("lora")
    assert execute(run_dir.root) == 0
    (_, manifest) = next(run_dir.complete_checkpoints())
    loadable = {file.path for file in manifest.files} - set(manifest.trainer_state)
    assert {Path(name).suffix for name in loadable} == {".json", ".jinja", ".safetensors"}
    assert json.loads((run_dir.checkpoint(4) / "trainer_state.json").read_text())["log_history"] == []
