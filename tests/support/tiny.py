"""A language model small enough to train in a test: two random Llama layers and a tokenizer of a few hundred tokens.

The chat template is ChatML without generation marks and with a default system turn, as SmolLM2's is.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_OTHER_TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


def build_other_tokenizer() -> Any:
    """One of another family: numbers have tokens of their own, and turns have another form."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([row["text"] for row in texts_of(50)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=_OTHER_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_tokenizer() -> Any:
    """A byte-level BPE tokenizer trained on the rows of this module; pad and end token are the same, as SmolLM2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = [json.dumps(row) for row in [*conversations(50), *preferences(50), *texts_of(50)]]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(folder: Path, *, seed: int = 0, biases: bool = False, tokenizer: Any = None) -> Path:
    """Write the model and its `tokenizer` into `folder` and return it; `biases` gives its layers some."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or build_tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
            attention_bias=biases,
            mlp_bias=biases,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_step_judge(folder: Path, *, labels: int = 2) -> Path:
    """A process reward model of that size, which knows nothing yet; with more `labels` one of something else."""
    import torch
    from transformers import AutoModelForTokenClassification

    build_model(folder, seed=6)
    torch.manual_seed(6)
    AutoModelForTokenClassification.from_pretrained(folder, num_labels=labels).save_pretrained(folder)
    return folder


def build_pair(folder: Path) -> Path:
    """Write the model as `base` and a LoRA adapter that changes every layer of it as `adapter`; return `folder`.

    The tokenizer is the starter's: GGUF knows tokenizers by how they cut text, and has no name for a made-up one.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from polm_core.starter import gguf_path, starter_tokenizer

    tokenizer = starter_tokenizer(gguf_path())
    base = build_model(folder / "base", tokenizer=tokenizer)
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")
    return folder


def conversations(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums as a user's question and the assistant's answer; every second one goes on for another turn."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        messages = _sum(draw)
        if index % 2:
            messages += _sum(draw)
        rows.append({"messages": messages})
    return rows


def preferences(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums with a right and a wrong answer."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        question, answer = _sum(draw)
        wrong = {"role": "assistant", "content": f"Who knows, {draw.randint(0, 99)}?"}
        rows.append({"prompt": [question], "chosen": [answer], "rejected": [wrong]})
    return rows


def ratings(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The answers of `preferences` one by one, rated."""
    pairs = preferences(-(-count // 2), seed=seed)
    sides = (("chosen", True), ("rejected", False))
    rows = [{"prompt": row["prompt"], "completion": row[side], "label": good} for row in pairs for side, good in sides]
    return rows[:count]


def prompts(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums with their answer alone."""
    return [
        {"prompt": [question], "answer": answer["content"].rpartition(" ")[2].rstrip(".")}
        for question, answer in (row["messages"][:2] for row in conversations(count, seed=seed))
    ]


def thoughts(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums with what is thought before their answer."""
    return [
        {
            "prompt": row["prompt"],
            "completion": [{"role": "assistant", "content": f"<think>I add them.</think>{row['answer']}"}],
        }
        for row in prompts(count, seed=seed)
    ]


def bare_prompts(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums without their answer."""
    return [{"prompt": row["prompt"]} for row in prompts(count, seed=seed)]


def steps(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums worked out in two steps, every second time with a wrong one."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        a, b = draw.randint(0, 9), draw.randint(0, 9)
        end = a + b + index % 2
        said = [f"Add {b} to {a}.", f"{a} + {b} = {end}."]
        rows.append({"prompt": f"What is {a} + {b}?", "completions": said, "labels": [True, index % 2 == 0]})
    return rows


def edits(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums that are to be something else, with another wording and a sum that stays."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        asked, (_, other) = f"{index + 1} + {index + 2}", _sum(draw)
        before, _, after = other["content"].rpartition(" ")
        rows.append(
            {
                "prompt": f"What is {asked}? It is",
                "subject": asked,
                "target": f" {draw.randint(1, 99)}.",
                "paraphrases": [f"{asked} ="],
                "neighbours": [{"prompt": before, "target": f" {after}"}],
            }
        )
    return rows


def texts_of(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Plain sentences about sums."""
    draw = random.Random(seed)
    return [{"text": " ".join(turn["content"] for turn in _sum(draw) + _sum(draw))} for _ in range(count)]


def documents(count: int) -> list[dict[str, Any]]:
    """Documents of two sentences about sums that `prompts` asks for."""
    rows = prompts(count)
    return [
        {
            "title": f"Sum {place}",
            "text": f"{row['prompt'][0]['content']} It is {row['answer']}. Whoever adds up gets a sum.",
        }
        for place, row in enumerate(rows)
    ]


def _sum(draw: random.Random) -> list[dict[str, str]]:
    a, b = draw.randint(1, 99), draw.randint(1, 99)
    return [
        {"role": "user", "content": f"What is {a} + {b}?"},
        {"role": "assistant", "content": f"{a} + {b} = {a + b}."},
    ]


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """Write canonical rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
