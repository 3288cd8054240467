"""The models and rows that the proofs start from: the starter model, and the studio's own sample datasets."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from polm_core.context import DatasetSpec, ModelSpec, RunSpec, dump_spec
from polm_core.data.images import IMAGES_FOLDER
from polm_core.data.prepare import prepare
from polm_core.data.report import PrepareJob
from polm_core.data.rows import ROWS_NAME
from polm_core.data.samples import write_samples
from polm_core.formats import Format
from polm_core.run_dir import Outcome, RunDir
from polm_core.starter import convert_starter
from tests.proof.rows import (
    BIASED,
    HELD_OUT,
    OTHER_MERGES,
    OTHER_TEACHER,
    SEEING,
    SEEING_STEPS,
    TEACHER,
    TEACHER_STEPS,
    TINY,
)
from tests.support import tiny

# Answers to each are written before training begins: a row of the table has ten minutes.
_PROMPTS = 94
_SENTENCE_END = re.compile(r"(?<=[.?!]) ")


def prepare_model(name: str, folder: Path) -> Path:
    """The folder of the model called `name`, made the first time."""
    if name == TINY:
        return tiny.build_model(folder / "tiny")
    if name == SEEING:
        return _with_new_connector(_trained_to_see(folder), folder / "seeing")
    starter = convert_starter(folder / "starter", lambda phase, fraction: None)
    if name == TEACHER:
        return _fine_tuned(starter, folder / "teacher")
    if name == OTHER_TEACHER:
        return _fine_tuned(_with_fewer_merges(starter, folder / "starter-merges"), folder / "teacher-merges")
    return _with_biases(starter, folder / "starter-biased") if name == BIASED else starter


def _fine_tuned(starter: Path, place: Path) -> Path:
    """The model after some steps on the sample conversations, all its weights trained; the run stays at `place`."""
    settings = {"max_steps": TEACHER_STEPS, "batch_size": 8, "max_length": 256, "eval_rows": 30}
    return _trained("sft", ModelSpec(path=starter, name=TEACHER), Format.CONVERSATION, settings, place)


def _trained_to_see(folder: Path) -> Path:
    settings = {"max_steps": SEEING_STEPS, "batch_size": 16, "learning_rate": 2e-3, "eval_rows": 30}
    tiny_model = ModelSpec(path=prepare_model(TINY, folder), name=TINY)
    return _trained("vlm-sft", tiny_model, Format.IMAGE_CONVERSATION, settings, folder / "seeing-run")


def _with_new_connector(trained: Path, folder: Path) -> Path:
    """The same model, its connector as it was before all training."""
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(trained)
    for layer in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
        layer.reset_parameters()
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    AutoProcessor.from_pretrained(trained).save_pretrained(draft)
    draft.rename(folder)
    return folder


def _trained(method: str, model: ModelSpec, rows: Format, settings: dict[str, Any], place: Path) -> Path:
    """The last checkpoint of a run, which is carried out the first time."""
    run_dir = RunDir(place)
    done = run_dir.read_result()
    if done is None or done.outcome is not Outcome.SUCCEEDED:
        shutil.rmtree(run_dir.root, ignore_errors=True)
        run_dir.create()
        path, format_ = prepare_rows(rows, place.parent)
        spec = RunSpec(
            method=method,
            model=model,
            dataset=dataset_spec(path, format_),
            held_out=HELD_OUT,
            config={"eval_steps": 0, "save_steps": 0, "generation": {"samples": 0}, **settings},
        )
        run_dir.config.write_text(dump_spec(spec))
        with run_dir.log.open("w") as log:
            command = [sys.executable, "-m", "polm_core.run", str(run_dir.root)]
            subprocess.run(command, stdout=log, stderr=log, check=True)
    last = run_dir.last_checkpoint()
    assert last is not None
    return last


def _with_fewer_merges(starter: Path, folder: Path) -> Path:
    """The same model with the first of its tokenizer's merges alone, and its tokens in another order."""
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(starter)
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = spec["model"]["merges"]
    made_late = {"".join(pair) for pair in merges[OTHER_MERGES:]} - {"".join(pair) for pair in merges[:OTHER_MERGES]}
    special = {token["content"] for token in spec["added_tokens"]}
    kept = sorted((name for name in spec["model"]["vocab"] if name not in made_late - special), reverse=True)
    places = {name: place for place, name in enumerate(kept)}
    rows = [spec["model"]["vocab"][name] for name in kept]
    spec["model"] |= {"vocab": places, "merges": merges[:OTHER_MERGES]}
    for token in spec["added_tokens"]:
        token["id"] = places[token["content"]]

    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    tokenizer.save_pretrained(draft)
    (draft / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    smaller = AutoTokenizer.from_pretrained(draft)
    model = AutoModelForCausalLM.from_pretrained(starter)
    embedded = model.get_input_embeddings().weight.data[rows].clone()
    model.resize_token_embeddings(len(rows))
    model.get_input_embeddings().weight.data.copy_(embedded)
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id, config.pad_token_id = (
            smaller.bos_token_id,
            smaller.eos_token_id,
            smaller.pad_token_id,
        )
    model.save_pretrained(draft)
    draft.rename(folder)
    return folder


def _with_biases(starter: Path, folder: Path) -> Path:
    """The same model with biases of zero in its layers, which change nothing until they are trained."""
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    plain = LlamaForCausalLM.from_pretrained(starter)
    config = AutoConfig.from_pretrained(starter, attention_bias=True, mlp_bias=True)
    biased = LlamaForCausalLM(config).to(plain.dtype)
    missing, _ = biased.load_state_dict(plain.state_dict(), strict=False)
    for name in missing:
        biased.get_parameter(name).data.zero_()
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    biased.save_pretrained(draft)
    AutoTokenizer.from_pretrained(starter).save_pretrained(draft)
    draft.rename(folder)
    return folder


def dataset_spec(path: Path, format_: Format) -> DatasetSpec:
    """The rows that `prepare_rows` made, with the images beside them where there are any."""
    images = path.parent / IMAGES_FOLDER if format_ is Format.IMAGE_CONVERSATION else None
    return DatasetSpec(path=path, format=format_, images=images)


def prepare_rows(format_: Format, folder: Path) -> tuple[Path, Format]:
    """A dataset that serves a method of `format_`, and the format that it is in."""
    samples = write_samples(folder)
    if format_ is Format.IMAGE_CONVERSATION:
        prepared = folder / "digits"
        prepare(PrepareJob(source=samples[format_], filename=samples[format_].name, out=prepared))
        return prepared / ROWS_NAME, format_
    if format_ is Format.TEXT:
        return _as_text(samples[Format.CONVERSATION], folder / "sample-text.jsonl"), Format.TEXT
    if format_ is Format.PROMPT:
        return _as_prompts(samples[Format.CONVERSATION], folder / "sample-prompt.jsonl"), Format.PROMPT
    if format_ is Format.STEPWISE:
        return _as_steps(samples[Format.PREFERENCE], folder / "sample-stepwise.jsonl"), Format.STEPWISE
    if format_ in samples:
        return samples[format_], format_
    source = Format.PREFERENCE if format_ is Format.RATING else Format.CONVERSATION
    return samples[source], source


def _as_prompts(conversations: Path, target: Path) -> Path:
    """The questions of some of the conversations: answers to all of them would take most of a proof's time."""
    rows = [json.loads(line) for line in conversations.read_text(encoding="utf-8").splitlines()[:_PROMPTS]]
    prompts = ({"prompt": row["messages"][:-1]} for row in rows)
    target.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts), encoding="utf-8")
    return target


def _as_steps(preferences: Path, target: Path) -> Path:
    """Both answers of each pair, a sentence a step; one of the rejected is right where the chosen has it too."""
    rows = []
    for line in preferences.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        chosen, rejected = (_SENTENCE_END.split(pair[side][0]["content"]) for side in ("chosen", "rejected"))
        prompt = pair["prompt"][0]["content"]
        rows.append({"prompt": prompt, "completions": chosen, "labels": [True] * len(chosen)})
        rows.append({"prompt": prompt, "completions": rejected, "labels": [step in chosen for step in rejected]})
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return target


def _as_text(conversations: Path, target: Path) -> Path:
    """What is said in the conversations as plain text, a row for each."""
    rows = [json.loads(line) for line in conversations.read_text(encoding="utf-8").splitlines()]
    texts = ("\n".join(turn["content"] for turn in row["messages"]) for row in rows)
    target.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return target
