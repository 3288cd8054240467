"""PPO: its arithmetic by hand, its value model, and answers that several steps learn from."""

from pathlib import Path
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.blocks import TrainConfig
from polm_core.context import ModelSpec, load_spec
from polm_core.errors import ConfigError
from polm_core.estimate import model_shape
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import VALUE_MODEL, RunDir, verify_checkpoint
from polm_core.training.loading import load_scorer, load_tokenizer
from polm_core.training.scoring import score
from tests.polm_core.conftest import MakeRun, points
from tests.polm_core.test_online import LENGTH, NOTHING, online_run, rollouts
from tests.polm_core.test_ranks import carry_out
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

BY_LENGTH = {"math": 0, **LENGTH}


def ppo_run(make_run: MakeRun, **settings: Any) -> RunDir:
    return online_run(make_run, "ppo", **{"num_generations": 1, "rewards": BY_LENGTH, **settings})


def test_advantages_are_those_of_the_papers() -> None:
    import torch

    from polm_core.methods.alignment.ppo_trainer import generalised_advantages, token_rewards

    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    distance = torch.tensor([[0.2, -0.4, 1.0], [0.5, 0.5, 0.0]])
    earned = token_rewards(torch.tensor([2.0, -1.0]), distance, mask, 0.1)
    assert torch.allclose(earned, torch.tensor([[-0.02, 0.04, 1.9], [-0.05, -1.05, 0.0]]))
    values = torch.tensor([[0.5, 1.0, 1.5], [0.2, -0.3, 0.0]])
    found = generalised_advantages(earned, values, 0.9, 0.5)
    # Each surprise is r + 0.9 V' - V; an advantage is the surprise and 0.45 of the advantage that follows.
    assert found[0].tolist() == pytest.approx([0.38 + 0.45 * (0.39 + 0.45 * 0.4), 0.39 + 0.45 * 0.4, 0.4])
    assert found[1].tolist() == pytest.approx([-0.52 + 0.45 * -0.75, -0.75, 0.0])
    # With all of what came and no discount, an advantage and what was foretold are what was earned from there on.
    plain = generalised_advantages(earned, values, 1.0, 1.0) + values
    assert plain[0].tolist() == pytest.approx([1.92, 1.94, 1.9])


def test_it_learns_what_is_rewarded(make_run: MakeRun) -> None:
    run_dir = ppo_run(
        make_run,
        rows=tiny.prompts(60),
        max_steps=50,
        batch_size=16,
        ppo_epochs=1,
        learning_rate=5e-3,
        value_learning_rate=5e-3,
        lr_scheduler="constant",
        beta=0,
        rewards={"math": 0, "regex": 1, "regex_pattern": "[0-9]"},
    )
    assert execute(run_dir.root) == 0
    held_out = points(run_dir, "eval/reward")
    assert held_out[50] > held_out[0] + 0.3


def test_the_value_model_learns_what_answers_earn(make_run: MakeRun) -> None:
    """Every answer earns 1, so in the end that is foretold; the policy has nothing to learn from it."""
    run_dir = ppo_run(
        make_run,
        max_steps=24,
        value_learning_rate=3e-2,
        value_clip_range=100,
        beta=0,
        rewards={"math": 0, "regex": 1, "regex_pattern": "^"},
    )
    assert execute(run_dir.root) == 0
    wrong = points(run_dir, "loss/value")
    assert wrong[24] < 0.2 * wrong[1]


def test_answers_are_written_once_for_all_steps_on_them(make_run: MakeRun) -> None:
    run_dir = ppo_run(make_run, max_steps=8, ppo_epochs=2, mini_batches=2, logged_prompts=20, spec={"held_out": 0})
    assert execute(run_dir.root) == 0
    written = rollouts(run_dir)
    assert [sample["step"] for sample in written] == [1] * 8 + [5] * 8
    assert {sample["place"] for sample in written} == {0}
    assert all(sample["rewards"].keys() == {"length"} for sample in written)
    assert len({sample["advantage"] for sample in written}) > 4
    assert points(run_dir, "reward").keys() == {1, 5}
    assert points(run_dir, "policy/clipfrac").keys() == set(range(1, 9))


def test_the_first_step_on_new_answers_finds_the_policy_that_wrote_them(make_run: MakeRun) -> None:
    run_dir = ppo_run(make_run, max_steps=4, ppo_epochs=2, learning_rate=1e-2)
    assert execute(run_dir.root) == 0
    change = points(run_dir, "policy/approxkl")
    assert max(change[1], change[3]) < NOTHING < 100 * NOTHING < min(change[2], change[4])


@pytest.mark.parametrize("adapter", ["none", "pissa", "lora"])
def test_a_run_is_compared_with_what_it_starts_from(make_run: MakeRun, adapter: str) -> None:
    run_dir = ppo_run(make_run, ppo_epochs=1, learning_rate=3e-2, adapter={"type": adapter})
    assert execute(run_dir.root) == 0
    distance = points(run_dir, "objective/kl")
    assert abs(points(run_dir, "eval/objective/kl")[0]) < 10 * NOTHING
    assert abs(distance[1]) < 10 * NOTHING
    assert max(abs(distance[step]) for step in (3, 4)) > 100 * NOTHING


def test_the_value_model_is_beside_the_policy_and_not_in_its_way(make_run: MakeRun, tiny_model: Path) -> None:
    run_dir = ppo_run(make_run)
    assert execute(run_dir.root) == 0
    folder = run_dir.last_checkpoint()
    assert folder is not None
    assert VALUE_MODEL in verify_checkpoint(folder).trainer_state
    assert model_shape(ModelSpec(path=folder)).parameters == model_shape(ModelSpec(path=tiny_model)).parameters
    onward = ppo_run(make_run, name="onward", spec={"model": {"path": str(folder), "name": "onward"}})
    assert execute(onward.root) == 0


def test_what_no_reward_judges_teaches_nothing(make_run: MakeRun) -> None:
    rows = [{"prompt": "Say something.", "answer": "a word"}] * 24
    run_dir = ppo_run(make_run, rows=rows, beta=0, rewards={"math": 1}, spec={"held_out": 0})
    assert execute(run_dir.root) == 0
    assert set(points(run_dir, "grad_norm").values()) == {0.0}
    assert {sample["reward"] for sample in rollouts(run_dir)} == {None}


def test_a_rollout_of_one_answer_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        catalogue.get("ppo").parse({"batch_size": 1})
    assert list(raised.value.fields) == ["config.mini_batches"]
    catalogue.get("ppo").parse({"batch_size": 1, "mini_batches": 2})


def test_preflight_counts_the_value_model_and_the_steps(make_run: MakeRun) -> None:
    settings = {"max_steps": 0, "epochs": 2, "rows": tiny.prompts(23), "spec": {"held_out": 0}}
    run_dir = ppo_run(make_run, ppo_epochs=3, mini_batches=2, **settings)
    report = preflight(load_spec(run_dir.config))
    without = preflight(load_spec(online_run(make_run, name="rloo", rewards=BY_LENGTH, **settings).config))
    assert report.blocking == []
    assert report.memory_bytes > without.memory_bytes
    assert report.disk_bytes > without.disk_bytes
    assert execute(run_dir.root) == 0
    progress = run_dir.read_progress()
    assert progress is not None
    assert report.steps == progress.total_steps == 24


@pytest.mark.timeout(900)
def test_several_processes_learn_one_value_model(make_run: MakeRun) -> None:
    together: dict[str, Any] = {"processes": 2, "devices": 0, "batch_size": 2, "save_steps": 2}
    whole = ppo_run(make_run, **together)
    assert carry_out(whole) == 0, whole.log.read_text()
    (half, _), (last, _) = whole.complete_checkpoints()
    resumed = ppo_run(make_run, name="resumed", spec={"resume": str(half)}, **together)
    assert carry_out(resumed) == 0, resumed.log.read_text()
    again = resumed.last_checkpoint()
    assert again is not None
    kept = {file.path: file.sha256 for file in verify_checkpoint(last).files if file.path.endswith(".safetensors")}
    assert VALUE_MODEL in kept
    assert kept.items() <= {file.path: file.sha256 for file in verify_checkpoint(again).files}.items()


def test_a_reward_model_of_another_tokenizer_scores_the_text(make_run: MakeRun, tmp_path: Path) -> None:
    scorer = other_scorer(tmp_path / "scorer")
    spec = {"reward_model": {"path": str(scorer), "name": "scorer"}}
    run_dir = ppo_run(make_run, spec=spec, rewards={"math": 0, "reward_model": 1}, logged_prompts=4)
    assert preflight(load_spec(run_dir.config)).blocking == []
    assert execute(run_dir.root) == 0
    given = {sample["completion"]: sample["rewards"]["reward_model"] for sample in rollouts(run_dir)}
    model, tokenizer = load_scorer(ModelSpec(path=scorer), TrainConfig()).eval(), load_tokenizer(ModelSpec(path=scorer))
    texts = [f"Q {sample['prompt']} A {sample['completion']}" for sample in rollouts(run_dir)]
    expected = [score(model, tokenizer, [tokenizer(text)["input_ids"]])[0] for text in texts]
    assert list(given.values()) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) > 2


def other_scorer(folder: Path) -> Path:
    """A reward model that splits text by its letters alone, with turns of its own."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    letters = ["<unk>", "<end>", *(chr(code) for code in range(32, 127))]
    splitter = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate(letters)}, unk_token="<unk>"))
    splitter.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=splitter,
        unk_token="<unk>",
        eos_token="<end>",
        pad_token="<end>",
        chat_template=(
            "{% for message in messages %}{% if message['role'] == 'user' %}Q {{ message['content'] }}"
            "{% else %} A {{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %} A {% endif %}"
        ),
    )
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 1, "num_labels": 1}
    LlamaForSequenceClassification(LlamaConfig(vocab_size=len(letters), **sizes, **heads)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
