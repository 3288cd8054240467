"""Settings: what is refused, how it is said, and what the form is told."""

from typing import Any

import pytest

from polm_core import catalogue
from polm_core.blocks import TrainConfig
from polm_core.errors import ConfigError
from polm_core.method import merged


@pytest.mark.parametrize(
    ("config", "field", "advice"),
    [
        ({"batch_size": 0}, "config.batch_size", "must be at least 1, not 0"),
        ({"learning_rate": 2}, "config.learning_rate", "must be at most 1, not 2"),
        ({"learning_rate": 0}, "config.learning_rate", "must be above 0, not 0"),
        ({"learning_rate": float("nan")}, "config.learning_rate", "must be a finite number"),
        ({"warmup_ratio": 1}, "config.warmup_ratio", "must be below 1, not 1"),
        ({"max_steps": "many"}, "config.max_steps", "must be a whole number, not 'many'"),
        ({"max_steps": 1.5}, "config.max_steps", "must be a whole number, not 1.5"),
        ({"epochs": "all"}, "config.epochs", "must be a number, not 'all'"),
        ({"packing": "perhaps"}, "config.packing", "must be true or false, not 'perhaps'"),
        ({"lr_scheduler": "sine"}, "config.lr_scheduler", "must be one of 'linear', 'cosine'"),
        ({"learnig_rate": 1e-4}, "config.learnig_rate", "is not a setting of sft. Did you mean learning_rate"),
        ({"adapter": {"type": "lara"}}, "config.adapter.type", "must be one of 'none', 'lora'"),
        ({"adapter": {"rank": 8}}, "config.adapter.rank", "is not a setting of sft."),
        ({"adapter": {"target_modules": []}}, "config.adapter.target_modules", "must be all-linear or at least one"),
        ({"adapter": {"target_modules": ["lm_head"]}}, "config.adapter.target_modules", "must not hold lm_head"),
        ({"adapter": 3}, "config.adapter", "not 3"),
        ({"adapter": {"type": "prompt"}, "packing": True}, "config.packing", "must be off with virtual tokens"),
        ({"adapter": {"type": "p-tuning"}, "loss": "dft"}, "config.loss", "must be nll with virtual tokens"),
        ({"adapter": {"type": "prefix"}, "gradient_checkpointing": True}, "config.adapter", "loses the prefix"),
        ({"packing": True, "max_length": 16}, "config.packing", "needs a max_length of at least 64"),
    ],
)
def test_a_setting_that_does_not_fit_is_named_with_what_would(config: dict[str, Any], field: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("sft").parse(config)
    assert list(caught.value.fields) == [field]
    assert advice in caught.value.fields[field][0]
    assert field.removeprefix("config.") in caught.value.message


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"loss": ["sigmoid", "ipo"], "loss_weights": [1.0]}, "config.loss_weights"),
        ({"loss": ["exo_pair"]}, "config.label_smoothing"),
        ({"loss": ["aot"], "weighting": True}, "config.weighting"),
        ({"loss": ["nca_pair"], "divergence": "js_divergence"}, "config.divergence"),
        ({"loss": ["wish"]}, "config.loss.0"),
        ({"loss": []}, "config.loss"),
    ],
)
def test_losses_that_do_not_go_together_are_refused(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("dpo").parse(config)
    assert field in caught.value.fields


@pytest.mark.parametrize("method", ["dpo", "kto", "bco", "orpo", "cpo", "reward-model"])
def test_virtual_tokens_are_for_supervised_methods(method: str) -> None:
    with pytest.raises(ConfigError, match="only supervised methods"):
        catalogue.get(method).parse({"adapter": {"type": "prompt"}})


@pytest.mark.parametrize(
    ("method", "config", "field"),
    [
        ("kto", {"batch_size": 1}, "config.batch_size"),
        ("cpo", {"loss": "hinge", "label_smoothing": 0.1}, "config.label_smoothing"),
        ("reward-model", {"generation": {"samples": 1}}, "config.generation"),
    ],
)
def test_settings_that_a_method_cannot_take_are_refused(method: str, config: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get(method).parse(config)
    assert field in caught.value.fields


def test_several_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("sft").parse({"batch_size": 0, "seed": -1, "adapter": {"r": 0}})
    assert set(caught.value.fields) == {"config.batch_size", "config.seed", "config.adapter.r"}


def test_text_from_a_form_is_read() -> None:
    config = catalogue.get("dpo").parse(
        {"max_steps": "20", "loss": "sigmoid, ipo", "adapter": {"target_modules": "q_proj, v_proj"}}
    )
    assert config.model_dump(include={"max_steps", "loss"}) == {"max_steps": 20, "loss": ["sigmoid", "ipo"]}
    assert isinstance(config, TrainConfig)
    assert config.adapter.target_modules == ["q_proj", "v_proj"]


def test_an_unknown_method_is_refused_with_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean .*dpo") as caught:
        catalogue.get("dop")
    assert "method" in caught.value.fields


def test_a_preset_has_its_own_defaults_and_tells_their_source() -> None:
    lora = catalogue.get("lora").config_schema()["properties"]
    assert lora["learning_rate"]["default"] == 2e-4
    assert "2106.09685" in lora["learning_rate"]["source"]
    assert lora["adapter"]["properties"]["type"]["default"] == "lora"
    assert lora["batch_size"]["source"] == "trl"
    assert catalogue.get("sft").config_schema()["properties"]["learning_rate"]["default"] == 2e-5


def test_settings_given_to_a_preset_leave_its_other_defaults() -> None:
    config = catalogue.get("lora").parse({"adapter": {"r": 4}})
    assert isinstance(config, TrainConfig)
    assert (config.adapter.type, config.adapter.r, config.learning_rate) == ("lora", 4, 2e-4)


def test_a_schema_refers_to_nothing() -> None:
    assert "$ref" not in str(catalogue.get("dpo").config_schema())


def test_merging_changes_neither_side() -> None:
    base = {"a": {"b": 1, "c": [1]}}
    over = {"a": {"b": 2}}
    assert merged(base, over) == {"a": {"b": 2, "c": [1]}}
    assert (base, over) == ({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2}})
