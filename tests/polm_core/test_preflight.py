"""What a person is told before a run starts."""

from pathlib import Path
from typing import Any

import pytest

from polm_core.blocks import AdapterConfig, AdapterType, TrainConfig
from polm_core.context import ModelSpec, load_spec
from polm_core.estimate import Workload, estimate, model_shape, trained_weights
from polm_core.formats import Format
from polm_core.preflight import main, preflight
from polm_core.preflight_report import Report
from polm_core.run import execute
from tests.polm_core.conftest import MakeRun
from tests.support import tiny


def check(make_run: MakeRun, method: str = "sft", **settings: Any) -> Report:
    return preflight(load_spec(make_run(method, **settings).config))


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.warnings}


def test_a_run_that_can_start_is_described(make_run: MakeRun) -> None:
    report = check(make_run, rows=tiny.conversations(100))
    assert report.blocking == []
    assert (report.rows_total, report.rows_used, report.held_out_rows) == (100, 90, 10)
    assert (report.steps, report.fit) == (4, "fits")
    assert min(report.memory_bytes, report.disk_bytes, report.seconds) > 0
    assert 0 < report.tokens.p50 <= report.tokens.p95 <= report.tokens.max
    assert sum(bar.count for bar in report.tokens.histogram) == 90
    assert report.tokens.histogram[-1].upto >= report.tokens.max


def test_the_first_example_is_what_the_model_sees(make_run: MakeRun, tokenizer: Any) -> None:
    rows = tiny.conversations(20)
    report = check(make_run, rows=rows, spec={"held_out": 0})
    assert report.first_example is not None
    shown = report.first_example.tokens
    assert "".join(token.text for token in shown) == tokenizer.apply_chat_template(rows[0]["messages"], tokenize=False)
    answer = rows[0]["messages"][-1]["content"]
    assert "".join(token.text for token in shown if token.trained) == f"{answer}<|im_end|>"


def test_both_answers_of_a_pair_are_shown(make_run: MakeRun) -> None:
    report = check(make_run, "dpo", format=Format.PREFERENCE)
    assert report.first_example is not None
    assert "Who knows" in "".join(token.text for token in report.first_example.rejected if token.trained)


def test_rows_that_repeat_leak_or_are_cut_are_counted(make_run: MakeRun, tmp_path: Path) -> None:
    rows = tiny.conversations(20)
    held_out = tiny.write_rows(tmp_path / "eval.jsonl", rows[:3])
    report = check(
        make_run,
        rows=[*rows, rows[5]],
        max_length=64,
        spec={"eval_dataset": {"path": str(held_out), "format": "conversation"}},
    )
    assert (report.duplicate_rows, report.leaked_rows, report.rows_used) == (1, 3, 21)
    assert (report.rows_total, report.held_out_rows) == (21, 3), "an evaluation set is not part of the dataset"
    assert report.truncated_rows == 11
    assert {"data.duplicates", "data.leaked", "data.truncated", "data.few_held_out"} <= codes(report)


def test_rows_without_a_trained_token_are_counted_as_the_run_drops_them(make_run: MakeRun) -> None:
    long = {"messages": [{"role": "user", "content": "7 " * 300}, {"role": "assistant", "content": "no"}]}
    report = check(make_run, rows=[*tiny.conversations(20), long], max_length=200, spec={"held_out": 0})
    assert (report.untrained_rows, report.rows_used, report.rows_total) == (1, 20, 21)
    assert "data.untrained_rows" in codes(report)


def test_layers_that_the_model_does_not_have_stand_in_the_way(make_run: MakeRun) -> None:
    adapter = {"type": "lora", "target_modules": ["q_proj", "query_key_value"]}
    (entry,) = check(make_run, adapter=adapter).blocking
    assert entry.message == "No layer of the model is called query_key_value."
    assert "q_proj" in entry.remedy
    adapter["target_modules"] = ["q_proj", "v_proj"]
    assert check(make_run, adapter=adapter).blocking == []


@pytest.mark.parametrize("method", ["dpo", "reward-model", "orpo", "cpo"])
def test_pairs_that_say_nothing_are_counted_and_left_out(make_run: MakeRun, method: str) -> None:
    rows = tiny.preferences(20)
    rows[3]["rejected"] = rows[3]["chosen"]
    rows[4]["chosen"] = [{"role": "assistant", "content": " "}]
    report = check(make_run, method, rows=rows, format=Format.PREFERENCE, spec={"held_out": 0})
    assert (report.equal_pairs, report.empty_answers, report.rows_used, report.rows_total) == (1, 1, 18, 20)
    assert {"data.equal_pairs", "data.empty_answers"} <= codes(report)
    assert report.blocking == []


def test_ratings_that_say_nothing_are_counted_and_left_out(make_run: MakeRun) -> None:
    rows = tiny.ratings(20)
    rows[3]["completion"] = ""
    report = check(make_run, "kto", rows=rows, format=Format.RATING, spec={"held_out": 0})
    assert (report.empty_answers, report.rows_used) == (1, 19)
    assert report.first_example is not None
    trained = "".join(token.text for token in report.first_example.tokens if token.trained)
    assert trained.startswith(rows[0]["completion"][0]["content"])


@pytest.mark.parametrize(
    ("words", "rewards", "blocks", "warns"),
    [
        (0, {"math": 1.0}, False, False),
        (8, {"math": 1.0, "length": 0.5}, False, True),
        (20, {"math": 1.0, "length": 0.5}, False, True),
        (20, {"math": 1.0}, True, False),
        (20, {"math": 0.0, "exact": 1.0}, False, False),
    ],
)
def test_rewards_that_do_not_recognise_the_datasets_answers_are_told(
    make_run: MakeRun, words: int, rewards: dict[str, float], blocks: bool, warns: bool
) -> None:
    answers = ["as you like it"] * words + [str(number) for number in range(20 - words)]
    rows = [{"prompt": f"{number}?", "answer": answer} for number, answer in enumerate(answers)]
    settings: dict[str, Any] = {"rows": rows, "format": Format.PROMPT_ANSWER, "spec": {"held_out": 0}}
    report = check(make_run, "rloo", rewards=rewards, max_completion_length=8, num_generations=2, **settings)
    assert [entry.code for entry in report.blocking] == ["rewards.unverified"] * blocks
    assert ("rewards.unverified" in codes(report)) == warns
    assert all(
        f"{words} of 20" in entry.message for entry in report.blocking + report.warnings if "rewards." in entry.code
    )


@pytest.mark.parametrize("method", ["kto", "bco"])
def test_ratings_that_all_say_the_same_stand_in_the_way(make_run: MakeRun, method: str) -> None:
    rows = [row for row in tiny.ratings(20) if row["label"]]
    report = check(make_run, method, rows=rows, format=Format.RATING, spec={"held_out": 0})
    assert [entry.code for entry in report.blocking] == ["data.one_label"]


def test_a_reward_model_takes_whole_answers_alone(make_run: MakeRun) -> None:
    rows = tiny.preferences(20)
    rows[0]["chosen"] = [{"role": "assistant", "content": "7 " * 200}]
    settings: dict[str, Any] = {"rows": rows, "format": Format.PREFERENCE, "max_length": 128, "spec": {"held_out": 0}}
    report = check(make_run, "reward-model", **settings)
    assert (report.untrained_rows, report.truncated_rows) == (1, 0)
    assert check(make_run, "dpo", name="dpo", **settings).truncated_rows == 1


def test_bitfit_needs_a_model_with_biases(make_run: MakeRun, tiny_model_with_biases: Path) -> None:
    (entry,) = check(make_run, "bitfit").blocking
    assert "no biases" in entry.message
    biased = {"model": {"path": str(tiny_model_with_biases)}}
    assert check(make_run, "bitfit", name="biased", spec=biased).blocking == []


def test_settings_of_an_adapter_that_have_no_meaning_are_told(make_run: MakeRun) -> None:
    report = check(make_run, adapter={"type": "prompt", "r": 4, "virtual_tokens": 8})
    (entry,) = [entry for entry in report.warnings if entry.code == "config.adapter_unused"]
    assert entry.message.endswith("takes no notice of r.")
    assert "virtual_tokens" in entry.remedy
    assert "config.adapter_unused" not in codes(check(make_run, "lora", name="lora", adapter={"r": 4}))


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"max_length": 8}, "data.untrained"),
        ({"rows": []}, "data.empty"),
        ({"batch_size": 0}, "config.invalid"),
        ({"method": "none-such"}, "config.method"),
        ({"devices": 1}, "resource.device"),
        ({"spec": {"model": {"path": "/nowhere"}}}, "model.missing"),
    ],
)
def test_what_stands_in_the_way_is_told_and_not_raised(make_run: MakeRun, settings: dict[str, Any], code: str) -> None:
    report = check(make_run, **settings)
    assert [entry.code for entry in report.blocking] == [code]


def test_a_length_the_model_was_not_made_for_is_warned_of(make_run: MakeRun) -> None:
    assert "model.positions" in codes(check(make_run, max_length=1024))
    assert "model.positions" not in codes(check(make_run, max_length=512))


@pytest.mark.train
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("settings", [{}, {"packing": True, "max_length": 64}, {"epochs": 1.5, "batch_size": 5}])
def test_the_number_of_steps_is_that_of_the_run(make_run: MakeRun, settings: dict[str, Any]) -> None:
    run_dir = make_run("sft", **{"max_steps": 0, **settings})
    report = preflight(load_spec(run_dir.config))
    assert execute(run_dir.root) == 0
    progress = run_dir.read_progress()
    assert progress is not None
    # Packing is estimated from the mean length, so it may be off by the sequences that are not quite full.
    assert abs(report.steps - progress.total_steps) <= (2 if "packing" in settings else 0)


def test_the_report_is_written_even_for_a_broken_config(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("nonsense")
    assert main(tmp_path / "spec.yaml", tmp_path / "out.json") == 0
    report = Report.model_validate_json((tmp_path / "out.json").read_text())
    assert [entry.code for entry in report.blocking] == ["config.invalid"]


def test_the_models_size_is_read_from_its_files(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    shape = model_shape(ModelSpec(path=tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert shape.parameters == model.num_parameters()
    assert (shape.hidden, shape.layers, shape.positions) == (64, 2, 512)


_MEASURED = [kind for kind in AdapterType if kind not in (AdapterType.NONE, AdapterType.BITFIT, AdapterType.QLORA)]


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
@pytest.mark.parametrize("kind", _MEASURED)
def test_the_adapters_size_is_that_of_peft(tiny_model: Path, kind: AdapterType, targets: Any) -> None:
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from polm_core.training.adapters import new_adapter

    adapter = AdapterConfig(type=kind, r=8, block_size=16, virtual_tokens=5, target_modules=targets)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    trainable, _ = get_peft_model(model, new_adapter(adapter, model, "CAUSAL_LM")).get_nb_trainable_parameters()
    assert trained_weights(model_shape(ModelSpec(path=tiny_model)), adapter) == trainable


def test_estimates_move_the_right_way(tiny_model: Path) -> None:
    shape = model_shape(ModelSpec(path=tiny_model))
    work = Workload(
        tokens_per_row=50, tokens_of_long_row=60, steps=100, held_out_rows=10, has_reference=False, needs_logits=False
    )
    full = estimate(shape, TrainConfig(), work, flops=1e11)
    adapter = estimate(shape, TrainConfig(adapter=AdapterConfig(type=AdapterType.LORA, r=1)), work, flops=1e11)
    pairs = estimate(shape, TrainConfig(), work._replace(has_reference=True, needs_logits=True), flops=1e11)
    large = estimate(shape, TrainConfig(batch_size=64), work, flops=1e11)
    slow = estimate(shape, TrainConfig(), work, flops=1e10)
    often = estimate(shape, TrainConfig(save_steps=10), work, flops=1e11)
    assert adapter.memory_bytes < full.memory_bytes < pairs.memory_bytes
    assert adapter.disk_bytes < full.disk_bytes < often.disk_bytes
    assert full.memory_bytes < large.memory_bytes
    assert full.seconds < pairs.seconds
    assert full.seconds < slow.seconds
