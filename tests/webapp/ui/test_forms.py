"""The form of a method's settings, for every method of the catalogue."""

from typing import Any

import pytest
from django.http import QueryDict
from django.template.loader import render_to_string

from polm_core import catalogue
from polm_core.blocks import TrainConfig
from polm_core.method import Method
from polm_core.settings import as_text
from webapp.ui.forms import MethodForm, Setting, settings_of

every_method = pytest.mark.parametrize("method", catalogue.METHODS, ids=lambda method: method.slug)


def posted(**values: Any) -> QueryDict:
    """What a browser posts; `__` stands for a dot."""
    query = QueryDict(mutable=True)
    for name, value in values.items():
        texts = value if isinstance(value, list) else [value]
        query.setlist(f"config.{name.replace('__', '.')}", texts)
    return query


def as_browser_posts(settings: list[Setting]) -> QueryDict:
    """Every field of a page as it was rendered, sent back untouched."""
    query = QueryDict(mutable=True)
    for setting in settings:
        match setting.kind:
            case "switch":
                query.setlist(setting.name, ["off", "on"] if setting.value else ["off"])
            case "choice":
                query[setting.name] = setting.value
            case "choices":
                query.setlist(setting.name, setting.value)
            case _:
                query[setting.name] = setting.text
    return query


@every_method
def test_untouched_form_gives_the_defaults(method: Method) -> None:
    form = MethodForm(method, posted=as_browser_posts(settings_of(method)))
    assert form.changes == {}
    assert form.config == method.default_config()


@every_method
def test_every_setting_is_on_the_form_once_with_help_and_default(method: Method) -> None:
    form = MethodForm(method)
    shown = [*form.main, *(setting for group in form.groups for setting in group.settings)]
    assert sorted(setting.path for setting in shown) == sorted(_paths(method.config_schema()))
    assert 4 <= len(form.main) <= 8
    for setting in shown:
        assert setting.help, setting.path
        assert setting.label, setting.path


@every_method
def test_it_renders(method: Method) -> None:
    form = MethodForm(method)
    html = render_to_string("components/method_form.html", {"form": form})
    for setting in form.settings.values():
        # What stands beside something else on the page is drawn there.
        assert (f'name="{setting.name}"' in html) == (not setting.beside)


@every_method
def test_values_of_a_run_are_shown_as_changes(method: Method) -> None:
    changed = {"seed": 7, "learning_rate": 0.0123} if issubclass(method.config, TrainConfig) else {"seed": 7}
    form = MethodForm(method, values={**method.default_config(), **changed})
    assert form.changes == changed
    assert form.config == method.parse(form.changes).model_dump(mode="json")


def _paths(schema: dict[str, Any], above: str = "") -> list[str]:
    paths = []
    for name, entry in schema["properties"].items():
        paths += _paths(entry, f"{above}{name}.") if "properties" in entry else [f"{above}{name}"]
    return paths


def test_posted_text_becomes_values() -> None:
    form = MethodForm(
        catalogue.get("dpo"),
        posted=posted(
            max_steps=" 20 ",
            learning_rate="1e-4",
            beta="0.3",
            gradient_checkpointing=["off", "on"],
            loss=["sigmoid", "sft"],
            loss_weights="1, 0.5",
            adapter__type="lora",
            adapter__r="8",
            adapter__target_modules="q_proj, v_proj",
        ),
    )
    assert form.is_valid
    assert form.changes == {
        "max_steps": 20,
        "learning_rate": 1e-4,
        "beta": 0.3,
        "gradient_checkpointing": True,
        "loss": ["sigmoid", "sft"],
        "loss_weights": [1, 0.5],
        "adapter": {"type": "lora", "r": 8, "target_modules": "q_proj, v_proj"},
    }
    assert form.config is not None
    assert form.config["adapter"]["target_modules"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("learning_rate", "9", "at most 1"),
        ("learning_rate", "fast", "number"),
        ("learning_rate", "nan", "finite number"),
        ("max_steps", "-1", "at least 0"),
        ("max_steps", "2.5", "whole number"),
        ("adapter__r", "0", "at least 1"),
        ("adapter__target_modules", "lm_head", "lm_head"),
        ("loss_weights", "1, 2", "one weight for each"),
    ],
)
def test_a_problem_stands_beside_its_field_and_the_text_stays(field: str, text: str, said: str) -> None:
    form = MethodForm(catalogue.get("dpo"), posted=posted(**{field: text}))
    assert not form.is_valid
    at_fault = [setting for setting in form.settings.values() if setting.problems]
    assert [setting.path for setting in at_fault] == [field.replace("__", ".")]
    assert said in at_fault[0].problems[0]
    html = render_to_string("components/setting.html", {"setting": at_fault[0]})
    assert 'class="errors"' in html
    assert text in html


def test_a_group_with_a_problem_is_open() -> None:
    form = MethodForm(catalogue.get("sft"), posted=posted(warmup_ratio="7"))
    assert [group.title for group in form.groups if group.is_open] == ["Optimiser"]


def test_two_methods_on_a_page_keep_their_fields_apart() -> None:
    sent = QueryDict("one.config.max_steps=5&two.config.max_steps=-1&one.config.adapter.type=lora")
    one, two = (MethodForm(catalogue.get("sft"), posted=sent, prefix=f"{name}.config") for name in ("one", "two"))
    assert one.changes == {"max_steps": 5, "adapter": {"type": "lora"}}
    assert one.settings["adapter.r"].chooser == "one.config.adapter.type"
    assert one.is_valid
    assert two.settings["max_steps"].name == "two.config.max_steps"
    assert two.settings["max_steps"].problems == ["must be at least 0, not -1"]
    assert two.problems == []


def test_problems_of_no_field_stand_above_the_form() -> None:
    form = MethodForm(catalogue.get("sft"))
    form.add_problems({"config.nonsense.deep": ["is not a setting"], "config.adapter": ["does not fit"]})
    assert form.problems == ["config.nonsense.deep is not a setting", "config.adapter does not fit"]


def test_an_option_of_the_method_chosen_before_is_let_go_of() -> None:
    form = MethodForm(catalogue.get("dpo"), posted=posted(loss=["nll"], lr_scheduler="sideways", beta="0.2"))
    assert form.is_valid
    assert form.changes == {"beta": 0.2}


def test_what_is_typed_is_escaped() -> None:
    form = MethodForm(catalogue.get("sft"), posted=posted(learning_rate='"><script>alert(1)</script>'))
    html = render_to_string("components/method_form.html", {"form": form})
    assert "<script>" not in html


def test_fields_of_a_block_without_a_type_wait_for_it() -> None:
    settings = MethodForm(catalogue.get("sft")).settings
    assert settings["adapter.r"].chooser == "config.adapter.type"
    assert settings["adapter.type"].chooser == ""
    assert settings["generation.temperature"].chooser == ""


def test_options_of_a_reward_wait_for_its_weight() -> None:
    settings = MethodForm(catalogue.get("rloo")).settings
    assert settings["rewards.regex_pattern"].chooser == "config.rewards.regex"
    assert settings["rewards.json_schema"].chooser == "config.rewards.valid_json"
    assert settings["rewards.regex"].chooser == ""


def test_rewards_are_filled_in_as_a_form() -> None:
    form = MethodForm(
        catalogue.get("rloo"),
        posted=posted(
            rewards__math="0",
            rewards__instructions="0.5",
            rewards__must_contain="sum, 5",
            rewards__valid_json="1",
            rewards__json_schema='{"type": "object"}',
            rewards__regex="-1",
            rewards__regex_pattern="12",
        ),
    )
    assert form.problems == []
    assert form.config is not None
    rewards = form.config["rewards"]
    assert (rewards["math"], rewards["regex"], rewards["must_contain"]) == (0, -1, ["sum", "5"])
    assert (rewards["json_schema"], rewards["regex_pattern"]) == ('{"type": "object"}', "12")


def test_principles_are_written_one_on_each_line() -> None:
    form = MethodForm(
        catalogue.get("constitutional-ai"), posted=posted(principles="Be kind, and brief.\r\n\r\n Be honest. ")
    )
    assert form.problems == []
    assert form.config is not None
    assert form.config["principles"] == ["Be kind, and brief.", "Be honest."]
    setting = form.settings["principles"]
    assert setting.text == "Be kind, and brief.\nBe honest."
    html = render_to_string("components/setting.html", {"setting": setting})
    assert ">Be kind, and brief.\nBe honest.</textarea>" in html


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("rewards__regex_pattern", "(a", "missing ): (a"),
        ("rewards__json_schema", '{"type": "objct"}', "must be a JSON Schema"),
        ("rewards__json_schema", '{"type"', "must be JSON"),
        ("num_generations", "3", "such as 2, 4, 8"),
        ("rewards__math", "high", "must be a number"),
    ],
)
def test_what_is_wrong_with_a_reward_stands_beside_it(field: str, text: str, said: str) -> None:
    form = MethodForm(catalogue.get("rloo"), posted=posted(**{field: text}))
    at_fault = [setting for setting in form.settings.values() if setting.problems]
    assert [setting.path for setting in at_fault] == [field.replace("__", ".")]
    assert said in at_fault[0].problems[0]


def test_a_clip_range_that_does_not_fit_the_loss_is_told_beside_it() -> None:
    form = MethodForm(catalogue.get("grpo"), posted=posted(loss="cispo"))
    (at_fault,) = [setting for setting in form.settings.values() if setting.problems]
    assert (at_fault.path, at_fault.label) == ("clip_high", "Clip high")
    assert "at least 1 for cispo" in at_fault.problems[0]
    assert MethodForm(catalogue.get("cispo"), posted=posted(loss="cispo")).problems == []


def test_rewards_without_a_weight_are_told_above_the_form() -> None:
    form = MethodForm(catalogue.get("rloo"), posted=posted(rewards__math="0"))
    assert form.problems == ["config.rewards must give at least one reward a weight"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "on"),
        (1e-6, "1e-6"),
        (2e-5, "2e-5"),
        (0.1, "0.1"),
        (32.0, "32"),
        (["a", 1.5], "a, 1.5"),
        ([], ""),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text
