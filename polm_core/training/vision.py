"""Models that read images beside text: loading one, or building one around a language model (LLaVA, arXiv 2304.08485).

A vision tower turns an image into a vector for each of its patches, a connector of two layers maps these into the
language model's space of tokens, and there they stand in the place of as many image tokens.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from polm_core.blocks import GenerationConfig, TrainConfig
from polm_core.context import ModelSpec
from polm_core.data.images import IMAGE_MARK, in_parts, open_image, size_of_image
from polm_core.errors import ModelError
from polm_core.estimate import ModelShape, read_shapes
from polm_core.training.encoding import Encoded, refused
from polm_core.training.loading import (
    check_folder,
    from_pretrained,
    load_tokenizer,
    load_writer,
    loading,
    options_of,
    reads_images,
)
from polm_core.training.rows import Row

logger = logging.getLogger(__name__)

SMALL = "small"
Trained = Literal["all", "connector", "connector-and-language"]

_PATCH = 8
# What models call these parts of them.
_TOWERS = ("vision_tower", "vision_model")
_CONNECTORS = ("multi_modal_projector", "connector")

# Puts turns that come in parts into one text each, with a mark for each image, before a template that knows texts only.
_FLATTEN = (
    "{%- set turns = namespace(all=[]) -%}{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{%- set turns.all = turns.all + [message] -%}{%- else -%}"
    "{%- set said = namespace(text='') -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{%- set said.text = said.text + '" + IMAGE_MARK + "' -%}"
    "{%- else -%}{%- set said.text = said.text + part['text'] -%}{%- endif -%}{%- endfor -%}"
    "{%- set turns.all = turns.all + [{'role': message['role'], 'content': said.text}] -%}"
    "{%- endif -%}{%- endfor -%}{%- set messages = turns.all -%}"
)


class Tower(NamedTuple):
    """A vision tower to build on: its configuration, what prepares its images, and which of its layers is read.

    `has_class` tells that it puts a vector of its own before those of the patches, which is left out.
    """

    config: Any
    image_processor: Any
    layer: int
    has_class: bool
    hub_id: str = ""


def load_processor(model: ModelSpec, vision_tower: str, size: int) -> Any:
    """What prepares text and images for the model: its own, or, for a language model, that of the tower it is given.

    Raises `ModelError` when there is none that can be used.
    """
    from transformers import AutoProcessor, LlavaProcessor
    from transformers.processing_utils import ProcessorMixin

    tokenizer = load_tokenizer(model)
    if reads_images(model):
        with loading(model, "processor"):
            processor = AutoProcessor.from_pretrained(model.source, use_fast=False, **options_of(model))
        if not isinstance(processor, ProcessorMixin):
            raise ModelError(f"{model.name} comes without a processor for its images.", code="model.processor")
        processor.tokenizer.pad_token = tokenizer.pad_token
        return processor
    tower = _tower(vision_tower, size)
    if IMAGE_MARK not in tokenizer.get_vocab():
        tokenizer.add_tokens([IMAGE_MARK], special_tokens=True)
    return LlavaProcessor(
        image_processor=tower.image_processor,
        tokenizer=tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy="default" if tower.has_class else "full",
        num_additional_image_tokens=int(tower.has_class),
        image_token=IMAGE_MARK,
        chat_template=_FLATTEN + tokenizer.chat_template,
    )


def load_vision_model(model: ModelSpec, config: TrainConfig, processor: Any, vision_tower: str, size: int) -> Any:
    """The model to train: one that reads images as it is, or one that is built around the language model.

    Raises what `load_model` does.
    """
    check_folder(model)
    if reads_images(model):
        return load_seeing(model, config)
    return _build(load_writer(model), processor, _tower(vision_tower, size))


def load_seeing(model: ModelSpec, config: TrainConfig) -> Any:
    """A model that reads images, as it is. Raises `ModelError` as `load_model` does."""
    from transformers import AutoModelForImageTextToText

    return from_pretrained(model, config, AutoModelForImageTextToText)


def _tower(name: str, size: int) -> Tower:
    from transformers import CLIPVisionConfig, LlavaImageProcessorPil

    if name != SMALL:
        return _hub_tower(name)
    config = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=size,
        patch_size=_PATCH,
    )
    # Padded to a square, as nothing of an image is to be cut off.
    images = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    return Tower(config, images, layer=-1, has_class=True)


def _hub_tower(hub_id: str) -> Tower:
    """A trained tower of the kinds CLIP and SigLIP; the layer before its last is read, as in LLaVA."""
    from transformers import AutoConfig, LlavaImageProcessorPil, SiglipImageProcessorPil

    spec = ModelSpec(hub_id=hub_id)
    with loading(spec, "vision tower"):
        config = AutoConfig.from_pretrained(hub_id, **options_of(spec))
    kind = config.model_type.removesuffix("_vision_model")
    if kind not in ("clip", "siglip"):
        raise ModelError(
            f"{hub_id} is of the kind {config.model_type}: vision towers of the kinds clip and siglip are used.",
            code="model.tower",
            advice="Take one such as openai/clip-vit-base-patch32 or google/siglip-base-patch16-224, or small.",
        )
    with loading(spec, "image processor"):
        images = {"clip": LlavaImageProcessorPil, "siglip": SiglipImageProcessorPil}[kind].from_pretrained(hub_id)
    return Tower(getattr(config, "vision_config", config), images, -2, has_class=kind == "clip", hub_id=hub_id)


def _tower_weights(tower: Tower) -> Any:
    from transformers import CLIPVisionModel, SiglipVisionModel

    kind = CLIPVisionModel if tower.has_class else SiglipVisionModel
    if not tower.hub_id:
        return kind(tower.config)
    spec = ModelSpec(hub_id=tower.hub_id)
    with loading(spec, "vision tower"):
        return kind.from_pretrained(tower.hub_id, use_safetensors=True, **options_of(spec))


def _build(language: Any, processor: Any, tower: Tower) -> Any:
    """A LLaVA of a language model, a tower and a new connector; the first two keep their weights."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    tokenizer = processor.tokenizer
    if len(tokenizer) > language.get_input_embeddings().num_embeddings:
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_index=processor.image_token_id,
        vision_feature_layer=tower.layer,
        vision_feature_select_strategy="default" if tower.has_class else "full",
        tie_word_embeddings=language.config.tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = _tower_weights(tower)
    model.model.multi_modal_projector = LlavaMultiModalProjector(config)
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    model.generation_config = language.generation_config
    logger.info("A vision tower (%s) and a connector are put before the language model.", tower.hub_id or SMALL)
    return model


def freeze_all_but(model: Any, trained: Trained) -> None:
    """Leave the connector alone, or it and the language model, to be trained. Raises `ModelError` where a model has
    no such parts."""
    if trained == "all":
        return
    connector = _part(model, _CONNECTORS, "connector")
    if trained == "connector":
        model.requires_grad_(False)
        connector.requires_grad_(True)
    else:
        _part(model, _TOWERS, "vision tower").requires_grad_(False)


def _part(model: Any, names: Sequence[str], what: str) -> Any:
    for name in names:
        if (found := getattr(model.base_model, name, None)) is not None:
            return found
    raise ModelError(
        f"Which part of a {model.config.model_type} model is its {what} is not known.",
        code="model.parts",
        advice="Train all of it, or take a LLaVA or Idefics3 model.",
    )


def with_parts(shape: ModelShape, model: ModelSpec, vision_tower: str, size: int, trained: Trained) -> ModelShape:
    """The sizes of the model with the tower and the connector that it is given, and of what stays as it is."""
    if reads_images(model):
        sizes = {name: math.prod(dimensions) for name, dimensions in read_shapes(model)[1].items()}
        tower, connector = (
            sum(count for name, count in sizes.items() if set(name.split(".")) & set(names))
            for names in (_TOWERS, _CONNECTORS)
        )
        whole = shape.parameters
    else:
        tower, connector = _new_weights(_tower(vision_tower, size), shape.hidden)
        whole = shape.parameters + tower + connector
    frozen = {"all": 0, "connector": whole - connector, "connector-and-language": tower}[trained]
    return shape._replace(parameters=whole, frozen=frozen)


def _new_weights(tower: Tower, hidden: int) -> tuple[int, int]:
    """How many weights a tower has, and the connector from it to a language model of that width."""
    import torch
    from transformers import CLIPVisionModel, SiglipVisionModel

    with torch.device("meta"):
        parts = (CLIPVisionModel if tower.has_class else SiglipVisionModel)(tower.config)
    return parts.num_parameters(), (tower.config.hidden_size + 1) * hidden + (hidden + 1) * hidden


class ImageTokens:
    """How many tokens an image of a size takes up: the processor is asked once for each size."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._known: dict[tuple[int, int], int] = {}

    def of(self, size: tuple[int, int]) -> int:
        from PIL import Image

        if size not in self._known:
            blank = Image.new("RGB", size)
            batch = self._processor(images=[[blank]], text=[self._processor.image_token], add_special_tokens=False)
            self._known[size] = len(batch["input_ids"][0])
        return self._known[size]


def encode_image_rows(processor: Any, rows: Sequence[Row]) -> Iterator[tuple[Encoded, ...]]:
    """The one sequence of each row, uncut: each image stands as its mark, and takes up as many tokens as it does in
    training. Raises `DataError` naming a row that the template refuses, or whose images cannot be read."""
    tokenizer, counts = processor.tokenizer, ImageTokens(processor)
    image_id = tokenizer.convert_tokens_to_ids(processor.image_token)
    for number, row in enumerate(rows, 1):
        sizes = [size_of_image(Path(path)) for path in row["images"]]
        try:
            before, text = rendered(processor, row)
        # A template is the model's own code and raises what it likes.
        except Exception as error:
            raise refused(number, error) from error
        tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        left = [counts.of(size) for size in sizes]
        for token, (start, end) in zip(tokens["input_ids"], tokens["offset_mapping"], strict=True):
            more = left.pop(0) - 1 if token == image_id and left else 0
            ids += [token] * (1 + more)
            offsets += [(start, end)] + [(end, end)] * more
        yield (Encoded(ids, [start >= len(before) and end > start for start, end in offsets], offsets, text),)


def rendered(processor: Any, row: Row) -> tuple[str, str]:
    """The text of a row's prompt up to where the answer begins, and that of the whole row, with marks for images."""
    prompt = in_parts(row["prompt"], len(row["images"]))
    answer = in_parts(row["completion"], 0)
    before = processor.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return before, processor.apply_chat_template(prompt + answer, tokenize=False)


def vision_collator(processor: Any) -> Any:
    """trl's batches of text and pixels, from rows that name their images: these are read as a batch is made."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)

    def batch(rows: list[Row]) -> Any:
        return collate(
            [
                {
                    "images": [open_image(Path(path)) for path in row["images"]],
                    "prompt": in_parts(row["prompt"], len(row["images"])),
                    "completion": in_parts(row["completion"], 0),
                }
                for row in rows
            ]
        )

    return batch


def answers_about(
    model: Any, processor: Any, rows: Sequence[Row], config: GenerationConfig, *, seed: int, at_once: int
) -> list[str]:
    """An answer to the prompt of each row, without special tokens. The random state of training is put back."""
    import torch

    from polm_core.training.sampling import generation_options

    tokenizer, answers = processor.tokenizer, []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for start in range(0, len(rows), at_once):
            asked = rows[start : start + at_once]
            images = [[open_image(Path(path)) for path in row["images"]] for row in asked]
            texts = [
                processor.apply_chat_template(
                    in_parts(row["prompt"], len(row["images"])), add_generation_prompt=True, tokenize=False
                )
                for row in asked
            ]
            batch = processor(
                images=images,
                text=texts,
                padding=True,
                padding_side="left",
                return_tensors="pt",
                add_special_tokens=False,
            ).to(model.device)
            written = model.generate(**batch, generation_config=generation_options(model, tokenizer, config))
            answers += tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers
