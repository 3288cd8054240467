"""GRPO and its relatives: what each asks of the trainer, that it makes a difference, and answers learned from twice."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import UNUSED_ANSWERS, RunDir, verify_checkpoint
from tests.polm_core.conftest import MakeRun, points
from tests.polm_core.test_online import LENGTH, NOTHING, online_run, rollouts
from tests.polm_core.test_ranks import carry_out
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

BY_LENGTH = {"math": 0, **LENGTH}
PRESETS = ("grpo", "dr-grpo", "dapo", "gspo", "bnpo", "cispo", "sapo")

# What the trainer has to be told for each to be what its paper says; the rest is as for GRPO.
SAME: dict[str, Any] = {
    "loss_type": "grpo",
    "scale_rewards": "group",
    "importance_sampling_level": "token",
    "epsilon": 0.2,
    "epsilon_high": 0.2,
    "mask_truncated_completions": False,
    "steps_per_generation": 4,
    "num_iterations": 1,
}
PAPERS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("2402.03300", {"steps_per_generation": 1}),
    "dr-grpo": ("2503.20783", {"loss_type": "dr_grpo", "scale_rewards": "none", "steps_per_generation": 1}),
    "dapo": ("2503.14476", {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True}),
    "gspo": ("2507.18071", {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}),
    # Its advantages are not the trainer's.
    "bnpo": ("2506.02864", {"loss_type": "bnpo", "scale_rewards": "none"}),
    "cispo": ("2506.13585", {"loss_type": "cispo", "epsilon_high": 5.0}),
    "sapo": ("2511.20347", {"loss_type": "sapo", "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}),
}


def grpo_run(make_run: MakeRun, method: str = "grpo", **settings: Any) -> RunDir:
    return online_run(make_run, method, **{"rewards": BY_LENGTH, **settings})


@pytest.mark.parametrize("slug", PRESETS)
def test_each_asks_the_trainer_for_what_its_paper_says(slug: str, tmp_path: Path) -> None:
    from polm_core.methods.reasoning.grpo import GrpoConfig
    from polm_core.methods.reasoning.grpo_trainer import grpo_arguments

    method, (paper, own) = catalogue.get(slug), PAPERS[slug]
    config = method.parse({})
    assert isinstance(config, GrpoConfig)
    arguments = grpo_arguments(config, RunDir(tmp_path))
    wanted = {**SAME, **own}
    assert {name: getattr(arguments, name) for name in wanted} == wanted
    assert method.paper.arxiv == paper
    assert (config.scale_rewards == "beta") == (slug == "bnpo")
    assert config.beta == (0.04 if slug == "grpo" else 0)


def test_a_default_that_is_not_of_its_paper_says_where_it_is_from() -> None:
    settings = catalogue.get("cispo").config_schema()["properties"]
    assert settings["clip_high"]["source"] == "ScaleRL, arXiv 2510.13786"
    assert "2506.13585" in settings["loss"]["source"]


def test_each_makes_a_difference(make_run: MakeRun) -> None:
    """All learn twice from the same answers. At first those that weigh tokens alike do the same; then they part."""
    first, second = {}, {}
    for slug in PRESETS:
        run_dir = grpo_run(
            make_run,
            slug,
            name=slug,
            **{"max_steps": 2, "num_iterations": 2, "mini_batches": 1, "batch_size": 16, "num_generations": 4},
            # Long enough for some answers to end and others to be cut off.
            **{"beta": 0, "skip_cut_answers": False, "max_completion_length": 48, "learning_rate": 3e-2},
            rewards={"math": 0, "length": 1, "length_max": 80},
            spec={"held_out": 0},
        )
        assert execute(run_dir.root) == 0
        assert points(run_dir, "completions/min_length")[1] < points(run_dir, "completions/max_length")[1]
        norms = points(run_dir, "grad_norm")
        first[slug], second[slug] = norms[1], norms[2]
    assert first["gspo"] == pytest.approx(first["grpo"], rel=1e-3)
    assert first["sapo"] == pytest.approx(first["grpo"], rel=1e-3)
    assert first["cispo"] == pytest.approx(first["dapo"], rel=1e-3)
    assert len({round(first[slug], 4) for slug in ("grpo", "dr-grpo", "dapo", "bnpo")}) == 4
    assert len({round(norm, 4) for norm in second.values()}) == len(PRESETS)


def test_the_weights_of_bnpo_are_those_of_its_paper() -> None:
    import torch

    from polm_core.methods.reasoning.grpo_trainer import beta_advantages, beta_weights

    # A mean of 1/2 and a variance of 1/16: a = b = 3/2, so the distribution is Beta(3/2, 3/2), 8/π √(p (1-p)).
    means = torch.tensor([0.25, 0.25, 0.75, 0.75]) * 0.8660254 + 0.0669873
    density = 8 / torch.pi * (means * (1 - means)).sqrt()
    assert torch.allclose(beta_weights(means), 1 / density, atol=1e-4)
    # Means that are all alike, or of one prompt alone, have no distribution.
    assert beta_weights(torch.tensor([0.5, 0.5])).tolist() == [1, 1]
    assert beta_weights(torch.tensor([0.5])).tolist() == [1]
    # Its inverse is cut where it has no bound.
    assert beta_weights(torch.tensor([0.01, *[0.5] * 9]))[0] == 10

    nan = torch.nan
    parts = torch.tensor([[1.0, 0.5], [0.0, 0.5], [1.0, nan], [nan, nan]])
    # The first reward's means are 1/2 and 1, those of the second 1/2 and none.
    (first, _), weight = beta_weights(torch.tensor([0.5, 1.0])).tolist(), 2.0
    advantages = beta_advantages(parts, [weight, 1.0], answers=2)
    assert advantages.tolist() == pytest.approx([weight * first / 2, -weight * first / 2, 0, 0])
    assert beta_advantages(parts[:, :1], [1.0], answers=1).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("slug", "scaled"), [("grpo", True), ("dr-grpo", False), ("bnpo", False)])
def test_answers_are_written_with_their_advantages(make_run: MakeRun, slug: str, scaled: bool) -> None:
    from torch import tensor

    from polm_core.methods.reasoning.grpo_trainer import beta_advantages

    rewards = {"math": 0, **LENGTH, "no_repeats": -0.25}
    settings = {"batch_size": 8, "num_generations": 4, "mini_batches": 1, "max_steps": 2}
    run_dir = grpo_run(make_run, slug, logged_prompts=2, rewards=rewards, **settings)
    assert execute(run_dir.root) == 0
    written = rollouts(run_dir)
    assert [sample["step"] for sample in written] == [1] * 8 + [2] * 8
    for _, step in groupby(written, key=lambda sample: sample["step"]):
        answers = list(step)
        found = [answer["advantage"] for answer in answers]
        assert any(found)
        if slug == "bnpo":
            parts = tensor([[answer["rewards"]["length"], answer["rewards"]["no_repeats"]] for answer in answers])
            assert found == pytest.approx(beta_advantages(parts, [1.0, -0.25], 4).tolist(), abs=1e-5)
            continue
        for start in (0, 4):
            earned = tensor([answer["reward"] for answer in answers[start : start + 4]])
            expected = (earned - earned.mean()) / (earned.std() + 1e-4 if scaled else 1)
            assert found[start : start + 4] == pytest.approx(expected.tolist(), abs=1e-3)


def test_answers_are_written_once_for_all_steps_on_them(make_run: MakeRun) -> None:
    run_dir = grpo_run(
        make_run, max_steps=8, num_iterations=2, mini_batches=2, logged_prompts=20, spec={"held_out": 0}, beta=0
    )
    assert execute(run_dir.root) == 0
    assert [sample["step"] for sample in rollouts(run_dir)] == [1] * 8 + [5] * 8
    assert points(run_dir, "reward").keys() == {1, 5}
    assert points(run_dir, "clip_ratio/low_mean").keys() == set(range(1, 9))


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_run_is_compared_with_what_it_starts_from(make_run: MakeRun, adapter: str) -> None:
    run_dir = grpo_run(make_run, learning_rate=3e-2, adapter={"type": adapter})
    assert execute(run_dir.root) == 0
    distance = points(run_dir, "kl")
    assert abs(points(run_dir, "eval/kl")[0]) < NOTHING
    assert abs(distance[1]) < NOTHING
    assert max(distance[step] for step in (3, 4)) > 10 * NOTHING


@pytest.mark.timeout(900)
def test_several_processes_go_on_with_the_same_answers(make_run: MakeRun) -> None:
    together: dict[str, Any] = {"processes": 2, "devices": 0, "batch_size": 2, "save_steps": 2}
    whole = grpo_run(make_run, "bnpo", **together)
    assert carry_out(whole) == 0, whole.log.read_text()
    (half, manifest), (last, _) = whole.complete_checkpoints()
    assert {UNUSED_ANSWERS.format(rank) for rank in (0, 1)} <= set(manifest.trainer_state)
    resumed = grpo_run(make_run, "bnpo", name="resumed", spec={"resume": str(half)}, **together)
    assert carry_out(resumed) == 0, resumed.log.read_text()
    again = resumed.last_checkpoint()
    assert again is not None
    kept = {file.path: file.sha256 for file in verify_checkpoint(last).files if file.path.endswith(".safetensors")}
    assert kept
    assert kept.items() <= {file.path: file.sha256 for file in verify_checkpoint(again).files}.items()


def test_a_run_without_a_reference_needs_less_memory(make_run: MakeRun) -> None:
    held, free = (grpo_run(make_run, name=f"beta-{beta}", beta=beta) for beta in (0.1, 0))
    assert preflight(load_spec(held.config)).memory_bytes > preflight(load_spec(free.config)).memory_bytes


def test_an_epoch_takes_each_prompt_once_as_was_told(make_run: MakeRun) -> None:
    settings = {"max_steps": 0, "epochs": 2, "rows": tiny.prompts(23), "spec": {"held_out": 0}}
    run_dir = grpo_run(make_run, "dapo", mini_batches=3, **settings)
    report = preflight(load_spec(run_dir.config))
    assert report.blocking == []
    assert execute(run_dir.root) == 0
    progress = run_dir.read_progress()
    assert progress is not None
    assert report.steps == progress.total_steps == 18


@pytest.mark.parametrize(
    ("settings", "where", "said"),
    [
        ({"loss": "cispo"}, "config.clip_high", "at least 1 for cispo"),
        (
            {"scale_rewards": "beta", "rewards": {"reward_model": 1}},
            "config.scale_rewards",
            "must not be beta with reward_model",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], where: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        catalogue.get("grpo").parse(settings)
    assert list(raised.value.fields) == [where]
    assert said in raised.value.fields[where][0]
