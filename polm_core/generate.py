"""Streaming answers for the playground, as a long-lived process (see `polm_core.serving`). A request is one line:

    {"id", "model_path", "adapter_path"?, "messages" or "prompt", "max_new_tokens"?, "temperature"?, "top_p"?, "seed"?}

and is answered by `{"id", "text"}` for each piece and then `{"id", "done": true, "tokens", "seconds"}`. A temperature
of 0 takes the likeliest token each time. The two models used last stay loaded.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polm_core.context import ModelSpec
from polm_core.errors import ConfigError
from polm_core.serving import Message, answer, serve_stdio

_KEPT_MODELS = 2


class Request(BaseModel):
    """One prompt to answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    id: str
    model_path: Path
    adapter_path: Path | None = None
    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    max_new_tokens: int = Field(256, ge=1, le=8192)
    temperature: float = Field(0.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or prompt")
        return self


class Loaded(NamedTuple):
    model: Any
    tokenizer: Any


class Generator:
    """Answers requests, keeping the models used last."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[Path, Path | None], Loaded] = OrderedDict()

    def answer(self, line: str) -> Iterator[Message]:
        """The messages that answer one request line. Never raises for what a request can get wrong."""
        return answer(line, Request, self._stream, code="generation.failed")

    @property
    def kept(self) -> list[tuple[Path, Path | None]]:
        """The loaded models (folder and adapter), the one used last at the end."""
        return list(self._models)

    def _stream(self, request: Request) -> Iterator[Message]:
        from transformers import TextIteratorStreamer

        loaded = self._load(request.model_path, request.adapter_path)
        inputs = _inputs(request, loaded)
        streamer = TextIteratorStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True)
        outcome: dict[str, Any] = {}
        began = time.perf_counter()
        worker = Thread(target=_generate, args=(request, loaded, inputs, streamer, outcome), daemon=True)
        worker.start()
        for text in streamer:
            if text:
                yield {"id": request.id, "text": text}
        worker.join()
        if "error" in outcome:
            raise outcome["error"]
        seconds = round(time.perf_counter() - began, 3)
        yield {"id": request.id, "done": True, "tokens": outcome["tokens"], "seconds": seconds}

    def _load(self, model_path: Path, adapter_path: Path | None) -> Loaded:
        key = (model_path, adapter_path)
        if key not in self._models:
            while len(self._models) >= _KEPT_MODELS:
                self._models.popitem(last=False)
            self._models[key] = load(ModelSpec(path=model_path, adapter=adapter_path))
        self._models.move_to_end(key)
        return self._models[key]


def load(spec: ModelSpec) -> Loaded:
    """A model to generate with, its adapter merged in or beside it. Raises `ModelError`."""
    import torch

    from polm_core.blocks import TrainConfig
    from polm_core.training.loading import load_tokenizer, load_writer, move, reads_images
    from polm_core.training.vision import load_seeing

    tokenizer = load_tokenizer(spec)
    model = load_seeing(spec, TrainConfig()) if reads_images(spec) else load_writer(spec)
    if torch.accelerator.is_available():
        model = move(model, torch.accelerator.current_accelerator())
    return Loaded(model.eval(), tokenizer)


def _inputs(request: Request, loaded: Loaded) -> Any:
    from polm_core.training.encoding import render_chat

    try:
        text = request.prompt
        if text is None:
            text = render_chat(loaded.tokenizer, request.messages or [], add_generation_prompt=True)
    # A template is the model's own code and raises what it likes.
    except Exception as error:
        raise ConfigError(
            f"The model's chat template does not take these messages: {error}", fields={"messages": [str(error)]}
        ) from error
    inputs = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=request.prompt is not None)
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    length = inputs["input_ids"].shape[1]
    if length == 0:
        raise ConfigError("The prompt is empty.", fields={"prompt": ["must not be empty"]})
    if limit is not None and length + request.max_new_tokens > limit:
        problem = f"must leave room: {length} tokens and {request.max_new_tokens} new ones are over the model's {limit}"
        raise ConfigError(f"The prompt {problem}.", fields={"prompt": [problem]})
    return inputs.to(loaded.model.device)


def _generate(request: Request, loaded: Loaded, inputs: Any, streamer: Any, outcome: dict[str, Any]) -> None:
    """Fill `streamer` and leave the number of tokens, or the exception, in `outcome`."""
    import torch

    from polm_core.blocks import GenerationConfig
    from polm_core.training.sampling import generation_options

    sampling = {"temperature": request.temperature, "top_p": request.top_p} if request.temperature else {}
    config = GenerationConfig(max_new_tokens=request.max_new_tokens, do_sample=bool(request.temperature), **sampling)
    try:
        with torch.no_grad():
            torch.manual_seed(request.seed)
            output = loaded.model.generate(
                **inputs,
                generation_config=generation_options(loaded.model, loaded.tokenizer, config),
                streamer=streamer,
            )
        outcome["tokens"] = int(output.shape[1] - inputs["input_ids"].shape[1])
    except Exception as error:  # noqa: BLE001 - raised by the thread that waits on the streamer
        outcome["error"] = error
        streamer.end()


if __name__ == "__main__":
    serve_stdio(Generator().answer)
