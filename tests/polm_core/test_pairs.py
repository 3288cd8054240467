"""Online DPO, Nash-MD and XPO: their losses by hand, who writes the second answer, and what is told of the first."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.errors import ConfigError
from polm_core.run import execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, points
from tests.polm_core.test_online import LENGTH, NOTHING, online_run, rollouts
from tests.polm_core.test_ranks import carry_out
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

BY_LENGTH = {"math": 0, **LENGTH}
ALWAYS_1 = {"math": 0, "regex": 1, "regex_pattern": "^"}
EVERY = pytest.mark.parametrize("method", ["online-dpo", "nash-md", "xpo"])


def pairs_run(make_run: MakeRun, method: str, **settings: Any) -> RunDir:
    return online_run(make_run, method, **{"rewards": BY_LENGTH, **settings})


def pairs(logps: list[list[float]], rewards: list[list[float]]) -> Any:
    import torch

    from polm_core.methods.alignment.pairs_trainer import Pairs

    reference = torch.full((len(rewards), 2), -5.0)
    return Pairs(torch.tensor(logps, requires_grad=True), reference, torch.tensor(rewards))


@pytest.mark.parametrize(
    ("kind", "losses"), [("sigmoid", [0.5130, 0.9130, 0, 0]), ("ipo", [0, 4, 0, 0]), ("hinge", [0.6, 1.4, 0, 0])]
)
def test_the_better_of_two_answers_is_preferred_and_ties_teach_nothing(kind: Any, losses: list[float]) -> None:
    from polm_core.methods.alignment.pairs_trainer import preference_loss

    # The model favours the first answer over the second by a nat more than its reference does.
    given = pairs([[-4.0, -5.0]] * 4, [[2.0, 1.0], [1.0, 2.0], [1.0, 1.0], [1.0, float("nan")]])
    # The margins are 1 and -1; half as much again would be IPO's goal at this beta.
    found = preference_loss(given, 0.4 if kind != "ipo" else 0.5, kind)
    assert found.tolist() == pytest.approx(losses, abs=1e-4)
    found.sum().backward()
    assert (given.logps.grad[2:] == 0).all()


def test_nash_md_follows_the_gradient_of_its_paper() -> None:
    import torch

    from polm_core.methods.alignment.nash_md import policy_gradient

    given = pairs([[-4.0], [-5.0], [-4.0]], [[3.0, 1.0], [1.0, 1.0], [float("nan"), 1.0]])
    policy_gradient(given, 0.1).sum().backward()
    # P(first preferred) - 1/2 - beta log(model / reference), with the sign of a loss.
    likelier = float(torch.tensor(2.0).sigmoid()) - 0.5
    assert given.logps.grad.flatten().tolist() == pytest.approx([0.1 - likelier, 0.0, 0.1])


@EVERY
def test_it_learns_what_is_rewarded(make_run: MakeRun, method: str) -> None:
    run_dir = pairs_run(
        make_run,
        method,
        rows=tiny.prompts(60),
        max_steps=40,
        batch_size=16,
        learning_rate=5e-3,
        lr_scheduler="constant",
        beta=0.02,
        rewards={"math": 0, "regex": 4, "regex_pattern": "[0-9]"},
    )
    assert execute(run_dir.root) == 0
    held_out = points(run_dir, "eval/reward/regex")
    assert held_out[40] > held_out[0] + 0.3
    assert points(run_dir, "kl")[40] > 0


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("method", ["nash-md", "xpo"])
def test_the_second_answer_is_the_reference_s_whatever_the_adapter(
    make_run: MakeRun, tiny_model: Path, method: str, adapter: str
) -> None:
    """Once the model has left it, and with the likeliest token alone to draw from."""
    settings: dict[str, Any] = {
        "rows": tiny.prompts(4),
        "batch_size": 8,
        "learning_rate": 5e-2,
        "logged_prompts": 4,
        "adapter": {"type": adapter},
        **({"mixture": 1.0} if method == "nash-md" else {}),
    }
    away = pairs_run(make_run, method, spec={"held_out": 0}, **settings)
    assert execute(away.root) == 0
    spec = {"held_out": 0, "resume": str(away.last_checkpoint())}
    run_dir = pairs_run(make_run, method, name="onward", spec=spec, max_steps=5, top_p=1e-6, **settings)
    assert execute(run_dir.root) == 0
    written = rollouts(run_dir)
    assert [sample["place"] for sample in written] == [0, 1] * 4
    start = [likeliest_answer(tiny_model, sample["prompt"]) for sample in written[1::2]]
    assert [sample["completion"] for sample in written[1::2]] == start
    assert [sample["completion"] for sample in written[::2]] != start


def likeliest_answer(folder: Path, question: str) -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    output = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))


def test_what_is_logged_is_about_the_model_s_own_answers(make_run: MakeRun) -> None:
    run_dir = pairs_run(make_run, "xpo", logged_prompts=2)
    assert execute(run_dir.root) == 0
    for step, logged in points(run_dir, "reward").items():
        pair = [sample for sample in rollouts(run_dir) if sample["step"] == step]
        assert [sample["place"] for sample in pair] == [0, 1, 0, 1]
        own, others = pair[::2], pair[1::2]
        assert logged == pytest.approx(fmean(sample["reward"] for sample in own), abs=1e-5)
        assert points(run_dir, "reward/length")[step] == pytest.approx(logged, abs=1e-5)
        for one, other in zip(own, others, strict=True):
            assert one["advantage"] == pytest.approx(one["reward"] - other["reward"], abs=1e-5)
            assert other["advantage"] == pytest.approx(-one["advantage"])


@EVERY
def test_where_all_answers_earn_the_same_nothing_is_learned(make_run: MakeRun, method: str) -> None:
    run_dir = pairs_run(make_run, method, rewards=ALWAYS_1, **({"alpha": 0} if method == "xpo" else {}))
    assert execute(run_dir.root) == 0
    assert set(points(run_dir, "pairs/tied").values()) == {1.0}
    assert max(points(run_dir, "grad_norm").values()) < NOTHING


@pytest.mark.parametrize("setting", ["batch_size", "num_generations"])
def test_an_odd_number_of_answers_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError) as raised:
        catalogue.get("xpo").parse({"batch_size": 12, setting: 3})
    assert raised.value.fields[f"config.{setting}"] == ["must be even, as answers are learned from in pairs, not 3"]


@pytest.mark.timeout(900)
def test_several_processes_hold_their_answers_against_the_mixture_s(make_run: MakeRun) -> None:
    together: dict[str, Any] = {"processes": 2, "devices": 0, "batch_size": 2, "logged_prompts": 2}
    run_dir = pairs_run(make_run, "nash-md", adapter={"type": "lora"}, **together)
    assert carry_out(run_dir) == 0, run_dir.log.read_text()
    assert [(sample["step"], sample["place"]) for sample in rollouts(run_dir)] == [
        (step, place) for step in (1, 2, 3, 4) for place in (0, 1)
    ]
    assert points(run_dir, "rewards/probabilities").keys() == {1, 2, 3, 4}
