"""Every kind of adapter: it trains, resumes exactly, answers in the playground, and is gone on from or refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core.blocks import SOFT_PROMPTS, SPLITTING, AdapterType
from polm_core.context import load_spec
from polm_core.formats import Format
from polm_core.generate import Generator
from polm_core.preflight import preflight
from polm_core.run import EXIT_FAILED, execute
from polm_core.run_dir import PROMPT_ENCODER, RunDir, verify_checkpoint
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

# The others are rows of the catalogue, which the conformance test walks.
_KINDS = [AdapterType.OLORA, AdapterType.LOHA, AdapterType.LOKR, AdapterType.LN]
_BESIDE_THE_MODEL = [kind for kind in AdapterType if kind not in (AdapterType.NONE, AdapterType.BITFIT)]
SHORT: dict[str, Any] = {"eval_steps": 0, "generation": {"samples": 0}, "spec": {"held_out": 0}}


def weights(run_dir: RunDir) -> dict[str, str]:
    folder = run_dir.last_checkpoint()
    assert folder is not None
    return {file.path: file.sha256 for file in verify_checkpoint(folder).files if file.path.endswith(".safetensors")}


def failure(run_dir: RunDir) -> dict[str, Any]:
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    return result.error


def adapter_settings(kind: AdapterType) -> dict[str, Any]:
    return {"adapter": {"type": kind.value, "r": 4, "virtual_tokens": 5}, "learning_rate": 1e-2}


@pytest.mark.parametrize("kind", _KINDS)
def test_resumes_exactly(make_run: MakeRun, kind: AdapterType) -> None:
    settings = {**adapter_settings(kind), **SHORT, "save_steps": 2}
    whole = make_run("sft", **settings)
    assert execute(whole.root) == 0
    half = {**SHORT["spec"], "resume": str(whole.checkpoint(2))}
    resumed = make_run("sft", name="resumed", **{**settings, "spec": half})
    assert execute(resumed.root) == 0
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("kind", _BESIDE_THE_MODEL)
def test_answers_in_the_playground_and_is_gone_on_from(make_run: MakeRun, tiny_model: Path, kind: AdapterType) -> None:
    first = make_run("sft", max_steps=2, **adapter_settings(kind), **SHORT)
    assert execute(first.root) == 0
    (folder, manifest) = next(first.complete_checkpoints())
    assert manifest.kind == "adapter"

    request = {"id": "1", "model_path": str(tiny_model), "prompt": "1 + 1 =", "max_new_tokens": 4}
    *_, last = Generator().answer(json.dumps({**request, "adapter_path": str(folder)}))
    assert last["done"] is True

    start = {"held_out": 0, "model": {"path": str(tiny_model), "adapter": str(folder)}}
    second = make_run("sft", name="second", max_steps=2, **{**adapter_settings(kind), **SHORT, "spec": start})
    code = execute(second.root)
    if kind is AdapterType.P_TUNING:
        assert code == EXIT_FAILED
        assert "start a new one" in failure(second)["message"]
        return
    assert code == 0
    assert (second.checkpoint(2) / "adapter_model.safetensors").is_file()
    # It begins where the other ended, not anew.
    assert points(second, "loss")[1] < points(first, "loss")[1] + 0.05


@pytest.mark.parametrize("kind", sorted(SOFT_PROMPTS))
def test_virtual_tokens_are_not_merged(make_run: MakeRun, tiny_model: Path, kind: AdapterType) -> None:
    first = make_run("sft", max_steps=1, **adapter_settings(kind), **SHORT)
    assert execute(first.root) == 0
    start = {"held_out": 0, "model": {"path": str(tiny_model), "adapter": str(first.checkpoint(1))}}
    second = make_run("sft", name="second", **{**SHORT, "spec": start})
    (entry,) = preflight(load_spec(second.config)).blocking
    assert "cannot be merged" in entry.message
    assert execute(second.root) == EXIT_FAILED
    assert "cannot be merged" in failure(second)["message"]
    assert "config.adapter.type" in failure(second)["fields"]


def test_what_makes_virtual_tokens_is_kept_for_resuming_alone(make_run: MakeRun) -> None:
    run_dir = make_run("p-tuning", **SHORT)
    assert execute(run_dir.root) == 0
    (_, manifest) = next(run_dir.complete_checkpoints())
    assert PROMPT_ENCODER in manifest.trainer_state


def test_bitfit_changes_biases_alone_and_refuses_a_model_without(
    make_run: MakeRun, tiny_model_with_biases: Path
) -> None:
    from safetensors.torch import load_file

    model = {"held_out": 0, "model": {"path": str(tiny_model_with_biases)}}
    run_dir = make_run("bitfit", **{**SHORT, "spec": model})
    assert execute(run_dir.root) == 0
    before = load_file(tiny_model_with_biases / "model.safetensors")
    after = load_file(run_dir.checkpoint(4) / "model.safetensors")
    changed = {name for name, value in before.items() if not value.equal(after[name])}
    assert changed
    assert all(name.endswith(".bias") for name in changed)

    without = make_run("bitfit", name="without", **SHORT)
    assert execute(without.root) == EXIT_FAILED
    assert "no biases" in failure(without)["message"]


@pytest.mark.parametrize("kind", sorted(SPLITTING))
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_what_splits_the_weights_is_compared_with_the_model_as_it_was(
    make_run: MakeRun, method: str, kind: AdapterType
) -> None:
    """Before its first step a model is its own reference: every reward is 0."""
    run_dir = make_run(method, max_steps=1, format=Format.PREFERENCE, adapter={"type": kind.value, "r": 4})
    assert execute(run_dir.root) == 0
    assert points(run_dir, "eval/rewards/chosen")[0] == pytest.approx(0, abs=1e-4)
    assert points(run_dir, "eval/rewards/rejected")[0] == pytest.approx(0, abs=1e-4)


def test_a_reward_model_starts_from_a_fine_tuned_adapter_and_writes_nothing(
    make_run: MakeRun, tiny_model: Path
) -> None:
    tuned = make_run("lora", max_steps=1, **SHORT)
    assert execute(tuned.root) == 0
    start = {"model": {"path": str(tiny_model), "adapter": str(tuned.checkpoint(1)), "name": "tiny"}}
    scorer = make_run("reward-model", name="scorer", format=Format.PREFERENCE, spec=start, adapter={"type": "lora"})
    assert execute(scorer.root) == 0
    shown = samples(scorer)
    assert {sample["side"] for sample in shown} == {"chosen", "rejected"}
    assert all(isinstance(sample["reward"], float) for sample in shown)

    whole = make_run("reward-model", name="whole", format=Format.PREFERENCE, max_steps=1)
    assert execute(whole.root) == 0
    for model in ({"path": str(whole.checkpoint(1))}, {"path": str(tiny_model), "adapter": str(scorer.checkpoint(4))}):
        writer = make_run("sft", name="writer", spec={"model": model})
        assert [entry.code for entry in preflight(load_spec(writer.config)).blocking] == ["model.reward"]
        assert execute(writer.root) == EXIT_FAILED
        assert failure(writer)["code"] == "model.reward"


@pytest.mark.parametrize("method", ["kto", "bco", "orpo", "cpo", "reward-model", "dpo"])
def test_rows_that_say_nothing_are_left_out_and_an_end_comes_only_when_none_is_left(
    make_run: MakeRun, method: str
) -> None:
    rows = tiny.preferences(20)
    rows[0]["chosen"] = rows[0]["rejected"]
    rows[1]["rejected"] = [{"role": "assistant", "content": ""}]
    rows[2]["prompt"] = [{"role": "user", "content": "7 " * 200}]
    good = make_run(method, rows=rows, format=Format.PREFERENCE, max_steps=0, max_length=128, spec={"held_out": 0})
    assert execute(good.root) == 0

    held_out = tiny.write_rows(good.root.parent / "long.jsonl", rows[2:3])
    unseen = {"eval_dataset": {"path": str(held_out), "format": "preference"}}
    blind = make_run(method, name="blind", format=Format.PREFERENCE, max_length=128, max_steps=1, spec=unseen)
    assert execute(blind.root) == 0
    assert points(blind, "eval/loss") == {}

    rows = [{**row, "rejected": [{"role": "assistant", "content": " "}]} for row in tiny.preferences(8)]
    rows = [{**row, "chosen": row["rejected"]} for row in rows]
    empty = make_run(method, name="empty", rows=rows, format=Format.PREFERENCE)
    assert execute(empty.root) == EXIT_FAILED
    assert failure(empty)["code"] == "data.untrained"

    short = make_run(method, name="short", format=Format.PREFERENCE, max_length=8)
    assert execute(short.root) == EXIT_FAILED
    assert failure(short)["code"] == "data.untrained"
