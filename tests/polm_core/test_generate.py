"""The playground's process: pieces of an answer, or a clear refusal, and on to the next request."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polm_core.blocks import AdapterConfig, AdapterType, TrainConfig
from polm_core.context import ModelSpec
from polm_core.generate import Generator
from polm_core.training.adapters import new_adapter
from polm_core.training.loading import load_model

MESSAGES = [{"role": "user", "content": "What is 1 + 1?"}]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator()


def ask(generator: Generator, **request: Any) -> list[dict[str, Any]]:
    return list(generator.answer(json.dumps({"id": "1", "max_new_tokens": 6, **request})))


def text_of(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("text", "") for message in messages)


def test_an_answer_comes_in_pieces_and_ends(generator: Generator, tiny_model: Path) -> None:
    *pieces, last = ask(generator, model_path=str(tiny_model), messages=MESSAGES)
    assert pieces
    assert all(piece["id"] == "1" and piece["text"] for piece in pieces)
    assert last["done"] is True
    assert 1 <= last["tokens"] <= 6
    assert last["seconds"] > 0


def test_a_seed_repeats_an_answer_and_another_changes_it(generator: Generator, tiny_model: Path) -> None:
    request = {"model_path": str(tiny_model), "prompt": "1 + 1 =", "temperature": 2.0, "max_new_tokens": 20}
    first, again, other = (text_of(ask(generator, **request, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_an_adapter_changes_the_answer(generator: Generator, tiny_model: Path, tmp_path: Path) -> None:
    from peft import get_peft_model

    model = load_model(ModelSpec(path=tiny_model), TrainConfig())
    wrapped = get_peft_model(model, new_adapter(AdapterConfig(type=AdapterType.LORA), model, "CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.5
    wrapped.save_pretrained(tmp_path)
    plain = ask(generator, model_path=str(tiny_model), prompt="1 + 1 =")
    adapted = ask(generator, model_path=str(tiny_model), adapter_path=str(tmp_path), prompt="1 + 1 =")
    assert text_of(plain) != text_of(adapted)


def test_only_the_models_used_last_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    generator = Generator()
    copies = [tmp_path / name for name in "ab"]
    for copy in copies:
        copy.symlink_to(tiny_model)
    for path in (tiny_model, *copies, tiny_model):
        assert ask(generator, model_path=str(path), prompt="1")[-1].get("done")
    assert [path for path, _ in generator.kept] == [copies[1], tiny_model]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"prompt": "x", "model_path": "/nowhere"}, "model.missing"),
        ({"prompt": "x"}, "config.invalid"),
        ({"messages": MESSAGES, "prompt": "x"}, "config.invalid"),
        ({}, "config.invalid"),
        ({"prompt": ""}, "config.invalid"),
        ({"prompt": "x", "max_new_tokens": 4000}, "config.invalid"),
        ({"prompt": "x", "temperature": -1}, "config.invalid"),
        ({"messages": [{"role": "user"}]}, "config.invalid"),
        ({"prompt": "x", "shell": "ls"}, "config.invalid"),
    ],
)
def test_what_cannot_be_answered_is_told(
    generator: Generator, tiny_model: Path, request_: dict[str, Any], code: str
) -> None:
    model = {} if request_ == {"prompt": "x"} else {"model_path": str(tiny_model)}
    (message,) = ask(generator, **model, **request_) if "model_path" not in request_ else ask(generator, **request_)
    assert message["id"] == "1"
    assert message["error"]["code"] == code
    assert message["error"]["message"]


def test_the_process_speaks_lines_and_survives_rubbish(tiny_model: Path) -> None:
    good = {"id": "good", "model_path": str(tiny_model), "prompt": "1 + 1 =", "max_new_tokens": 3}
    done = subprocess.run(
        [sys.executable, "-m", "polm_core.generate"],
        input=f"rubbish\n\n{json.dumps(good)}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    first, *others = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["error"]["code"] == "config.invalid"
    assert {message["id"] for message in others} == {"good"}
    assert others[-1]["done"] is True
