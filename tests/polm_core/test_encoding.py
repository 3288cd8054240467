"""Rows as tokens: the text is the template's, the right part of it is trained on, and it is what trl would make."""

from pathlib import Path
from typing import Any

import pytest

from polm_core.errors import DataError, ModelError
from polm_core.formats import Format
from polm_core.training.encoding import (
    CHAT_TEMPLATE,
    Encoded,
    as_asked,
    as_pairs,
    encode_pairs,
    encode_rows,
    ensure_chat_template,
    prompt_of,
)
from tests.support import tiny

TALK = [
    {"role": "user", "content": "What is 1 + 1?"},
    {"role": "assistant", "content": "1 + 1 = 2."},
    {"role": "user", "content": "And 2 + 2?"},
    {"role": "assistant", "content": "2 + 2 = 4."},
]
# Drops what an assistant thought in turns before the last, as reasoning models' templates do.
FORGETFUL = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and not loop.last %}{{ message.content.split('~')[-1] }}"
    "{% else %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def own_tokenizer() -> Any:
    """A tokenizer that a test may change."""
    return tiny.build_tokenizer()


def encode(tokenizer: Any, row: dict[str, Any], format: Format, loss_on: Any = "answers") -> Encoded:
    (encoded,) = encode_rows(tokenizer, [row], format, loss_on)
    return encoded


def trained_text(tokenizer: Any, encoded: Encoded) -> str:
    pairs = zip(encoded.input_ids, encoded.trained, strict=True)
    return str(tokenizer.decode([token for token, trained in pairs if trained]))


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, CHAT_TEMPLATE], ids=["without marks", "with marks"])
def test_every_answer_is_trained_on_with_its_end_and_nothing_else(own_tokenizer: Any, template: str) -> None:
    own_tokenizer.chat_template = template
    encoded = encode(own_tokenizer, {"messages": TALK}, Format.CONVERSATION)
    assert trained_text(own_tokenizer, encoded) == "1 + 1 = 2.<|im_end|>2 + 2 = 4.<|im_end|>"
    assert encoded.text == own_tokenizer.apply_chat_template(TALK, tokenize=False)
    assert encoded.input_ids == own_tokenizer.apply_chat_template(TALK, return_dict=True)["input_ids"]


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, CHAT_TEMPLATE], ids=["without marks", "with marks"])
def test_an_answer_of_weight_0_is_read_but_not_trained_on(own_tokenizer: Any, template: str) -> None:
    own_tokenizer.chat_template = template
    row = {"messages": [TALK[0], TALK[1] | {"weight": 0}, *TALK[2:]]}

    answers = encode(own_tokenizer, row, Format.CONVERSATION)
    everything = encode(own_tokenizer, row, Format.CONVERSATION, "everything")

    assert trained_text(own_tokenizer, answers) == "2 + 2 = 4.<|im_end|>"
    assert answers.text == own_tokenizer.apply_chat_template(TALK, tokenize=False)
    rest = trained_text(own_tokenizer, everything)
    assert "1 + 1 = 2." not in rest
    assert "What is 1 + 1?" in rest
    assert "And 2 + 2?" in rest


def test_everything_is_trained_on_when_asked(tokenizer: Any) -> None:
    encoded = encode(tokenizer, {"messages": TALK}, Format.CONVERSATION, "everything")
    assert all(encoded.trained)


def test_a_template_that_rewrites_earlier_turns_is_understood(own_tokenizer: Any) -> None:
    own_tokenizer.chat_template = FORGETFUL
    messages = [
        TALK[0],
        {"role": "assistant", "content": "hm~It is 2."},
        TALK[2],
        {"role": "assistant", "content": "so~4."},
    ]
    with pytest.raises(ModelError) as caught:
        encode(own_tokenizer, {"messages": messages}, Format.CONVERSATION)
    assert caught.value.code == "model.template"
    messages[1]["content"] = "It is 2."
    encoded = encode(own_tokenizer, {"messages": messages}, Format.CONVERSATION)
    assert trained_text(own_tokenizer, encoded) == "It is 2.<|im_end|>so~4.<|im_end|>"


def test_a_completion_is_trained_on_but_not_answers_in_its_prompt(tokenizer: Any) -> None:
    row = {"prompt": TALK[:3], "completion": TALK[3:]}
    assert trained_text(tokenizer, encode(tokenizer, row, Format.PROMPT_COMPLETION)) == "2 + 2 = 4.<|im_end|>"


def test_plain_text_gets_an_end_and_only_the_completion_is_trained_on(tokenizer: Any) -> None:
    encoded = encode(tokenizer, {"prompt": "1 + 1 =", "completion": " 2"}, Format.PROMPT_COMPLETION)
    assert trained_text(tokenizer, encoded) == " 2<|im_end|>"
    encoded = encode(tokenizer, {"text": "1 + 1 = 2"}, Format.TEXT)
    assert trained_text(tokenizer, encoded) == "1 + 1 = 2<|im_end|>"


def test_a_row_the_template_refuses_is_named(own_tokenizer: Any) -> None:
    own_tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match=r"Row 1 .*roles must alternate"):
        encode(own_tokenizer, {"messages": TALK}, Format.CONVERSATION)


def test_a_tokenizer_without_a_template_gets_turns_that_end(own_tokenizer: Any) -> None:
    assert not ensure_chat_template(own_tokenizer)
    own_tokenizer.chat_template = None
    assert ensure_chat_template(own_tokenizer)
    encoded = encode(own_tokenizer, {"messages": TALK[:2]}, Format.CONVERSATION)
    assert trained_text(own_tokenizer, encoded) == "1 + 1 = 2.<|im_end|>"
    own_tokenizer.chat_template = own_tokenizer.eos_token = None
    with pytest.raises(ModelError):
        ensure_chat_template(own_tokenizer)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("rows", "format"),
    [
        (tiny.conversations(6), Format.CONVERSATION),
        (
            [{"prompt": row["prompt"], "completion": row["chosen"]} for row in tiny.preferences(6)],
            Format.PROMPT_COMPLETION,
        ),
        ([{"prompt": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(6)], Format.PROMPT_COMPLETION),
        (tiny.texts_of(6), Format.TEXT),
    ],
    ids=["conversation", "turns", "plain", "text"],
)
def test_tokens_and_labels_are_those_of_trl(
    own_tokenizer: Any, tiny_model: Path, tmp_path: Path, rows: list[Any], format: Format
) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    own_tokenizer.chat_template = CHAT_TEMPLATE
    arguments = SFTConfig(
        str(tmp_path), use_cpu=True, bf16=False, report_to=[], assistant_only_loss=format is Format.CONVERSATION
    )
    trainer = SFTTrainer(
        str(tiny_model), args=arguments, train_dataset=Dataset.from_list(rows), processing_class=own_tokenizer
    )
    for ours, theirs in zip(encode_rows(own_tokenizer, rows, format, "answers"), trainer.train_dataset, strict=True):
        labels = [token if on else -100 for token, on in zip(ours.input_ids, ours.trained, strict=True)]
        assert ours.input_ids == theirs["input_ids"]
        # After a chat completion trl counts the line break too, which no model has to write.
        end = max(place for place, label in enumerate(labels) if label != -100) + 1
        assert labels[:end] == theirs["labels"][:end]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("wrap", [True, False])
def test_pairs_are_those_of_trl(tokenizer: Any, tiny_model: Path, tmp_path: Path, wrap: bool) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    plain = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": " no"} for n in range(6)]
    pairs = as_pairs(plain, wrap=wrap)
    trainer = DPOTrainer(
        str(tiny_model),
        args=DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to=[]),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
    )
    for ours, theirs in zip(encode_pairs(tokenizer, pairs), trainer.train_dataset, strict=True):
        for encoded, side in zip(ours, ("chosen_ids", "rejected_ids"), strict=True):
            assert encoded.input_ids == theirs["prompt_ids"] + theirs[side]
            assert sum(encoded.trained) == len(theirs[side])


def test_pairs_are_of_one_kind() -> None:
    mixed = [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": [{"role": "assistant", "content": "b", "name": "x"}], "rejected": "c"},
    ]
    for pair in as_pairs(mixed, wrap=False):
        assert pair["chosen"] == [{"role": "assistant", "content": "b"}]
        assert pair["prompt"] == [{"role": "user", "content": "a"}]
    assert as_pairs(mixed[:1], wrap=False) == mixed[:1]


@pytest.mark.parametrize(
    ("row", "format", "prompt", "reference"),
    [
        ({"messages": TALK}, Format.CONVERSATION, TALK[:3], "2 + 2 = 4."),
        ({"prompt": "a", "completion": "b"}, Format.PROMPT_COMPLETION, "a", "b"),
        ({"prompt": TALK[:1], "chosen": TALK[1:2], "rejected": TALK[3:]}, Format.PREFERENCE, TALK[:1], "1 + 1 = 2."),
        ({"text": "a b c d e f"}, Format.TEXT, "a b", "c d e f"),
    ],
)
def test_what_is_asked_and_what_the_row_answers(
    row: dict[str, Any], format: Format, prompt: Any, reference: str
) -> None:
    assert prompt_of(row, format) == (prompt, reference)


@pytest.mark.parametrize(
    ("prompt", "noted"),
    [(TALK[:1], {}), (TALK[:3], {"turns": TALK[:3]}), ("1 + 1 =", {"raw": True})],
    ids=["a question", "a conversation", "raw text"],
)
def test_a_sample_tells_what_the_text_of_its_prompt_does_not(prompt: Any, noted: dict[str, Any]) -> None:
    assert as_asked(prompt) == noted
