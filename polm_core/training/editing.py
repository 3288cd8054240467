"""Rank-one model editing (ROME, arXiv 2202.05262): the weights of one layer are changed so that a fact is another.

The second projection of a feed-forward block is read as a memory: at the last token of a subject, its input is the key
and its output the value. An edit finds the value from which the model says the target, and puts it there in the memory
with the least change to what it holds for the keys of other texts.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from polm_core.blocks import GenerationConfig
from polm_core.context import RunContext
from polm_core.errors import ConfigError, DataError, ModelError
from polm_core.training.encoding import Encoded, Span
from polm_core.training.rows import Row
from polm_core.training.sampling import generate
from polm_core.training.scoring import padded

# What the last linear layer of a feed-forward block is called in the families of transformers.
_PROJECTIONS = ("down_proj", "fc_out", "dense_4h_to_h", "fc2")
# Facts were found in the early middle of the layers (figure 2 of the paper).
_AUTO_DEPTH = 0.27
# How a text that the model writes by itself begins.
_OPENINGS = (
    "The",
    "In",
    "A",
    "It",
    "When",
    "This",
    "We",
    "She",
    "He",
    "There",
    "One",
    "If",
    "For",
    "After",
    "Many",
    "At",
)
_TEXT_TOKENS = 128
_MAX_ROUNDS = 40
# Share of the keys' mean square that is added to each direction, so that few texts do too.
_RIDGE = 1e-2
_PREFIX_WORDS = 8
# An edit is found once the target is as likely as this.
_SURE = 0.97
_ESSENCE = "{} is a"


class Probe(NamedTuple):
    """A prompt with what should follow, as tokens: those from `start` on are the target's."""

    ids: list[int]
    start: int


class Said(NamedTuple):
    """What the model makes of a probe: the likeliest tokens in the target's place, whether they are the target, how
    likely that is, and the loss of each of the text's tokens but the first."""

    likeliest: list[int]
    is_target: bool
    probability: float
    losses: list[float]


class RankOne(NamedTuple):
    """What an edit adds to the weights: the product of a column and a row."""

    column: list[float]
    row: list[float]


class Search(NamedTuple):
    """How a change is searched for; `contexts` are texts before the prompt after which it has to hold too."""

    steps: int
    learning_rate: float
    kl_weight: float
    max_change: float
    contexts: int


def probe(tokenizer: Any, prompt: str, target: str) -> Probe:
    """The tokens of a prompt and its target. Raises `DataError` when no token begins with the target."""
    ids, offsets = _tokens(tokenizer, prompt + target)
    start = next((place for place, (_, end) in enumerate(offsets) if end > len(prompt)), len(ids))
    if start in (0, len(ids)):
        raise DataError(f"{prompt!r} has no token before or after its end.", code="data.untrained")
    return Probe(ids, start)


def encode_edit(tokenizer: Any, edit: Row) -> Encoded:
    """An edit's prompt with its target as tokens; those of the target are what is learned."""
    ids, offsets = _tokens(tokenizer, edit["prompt"] + edit["target"])
    trained = [end > len(edit["prompt"]) for _, end in offsets]
    return Encoded(ids, trained, offsets, edit["prompt"] + edit["target"])


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    found = tokenizer(text, return_offsets_mapping=True)
    return found["input_ids"], found["offset_mapping"]


def read_probes(model: Any, probes: Sequence[Probe], batch_size: int) -> list[Said]:
    """What the model makes of each probe."""
    import torch

    found: list[Said] = []
    for begin in range(0, len(probes), batch_size):
        batch = probes[begin : begin + batch_size]
        ids, there = padded([one.ids for one in batch], 0, model.device)
        with torch.no_grad():
            odds = model(input_ids=ids, attention_mask=there, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        for place, one in enumerate(batch):
            own = odds[place, : len(one.ids) - 1]
            losses = -own.gather(1, ids[place, 1 : len(one.ids), None])[:, 0]
            likeliest = own[one.start - 1 :].argmax(-1).tolist()
            said = math.exp(-losses[one.start - 1 :].sum().item())
            found.append(Said(likeliest, likeliest == one.ids[one.start :], said, losses.tolist()))
    return found


class Memory:
    """One feed-forward block's second projection, with the statistics of its keys."""

    def __init__(self, model: Any, tokenizer: Any, layer: int | str, context: RunContext) -> None:
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.context = context
        self.layer, self.projection = _projection(model, layer)
        self.texts: list[str] = []
        self._inverse: Any = None

    def learn_keys(self, tokens: int, batch_size: int, seed: int) -> None:
        """Gather the keys of at least so many tokens of texts that the model writes itself."""
        import torch

        width = self.projection.in_features
        total, seen = torch.zeros(width, width, dtype=torch.float64, device=self.model.device), 0
        options = GenerationConfig().model_copy(update={"max_new_tokens": _TEXT_TOKENS, "do_sample": True})
        for turn in range(_MAX_ROUNDS):
            starts = [_OPENINGS[place % len(_OPENINGS)] for place in range(batch_size)]
            said = generate(
                self.model, self.tokenizer, starts, options, longest=_TEXT_TOKENS, seed=seed + turn * batch_size
            )
            for start, text in zip(starts, said, strict=True):
                ids, _ = _tokens(self.tokenizer, start + text)
                # The first token is attended to by all others and tells nothing of the text.
                keys = self._keys(ids)[1:].double()
                total += keys.T @ keys
                seen += len(keys)
                self.texts.append(start + text)
            self.context.check()
            if seen >= tokens:
                break
        if seen == 0:
            raise ModelError("The model writes no text, from which its keys could be learned.", code="model.silent")
        mean = total / seen
        ridge = _RIDGE * mean.diagonal().mean() * torch.eye(width, dtype=torch.float64, device=mean.device)
        self._inverse = torch.linalg.inv(mean + ridge)

    def _keys(self, ids: list[int]) -> Any:
        """What the projection reads at each token."""
        import torch

        caught: list[Any] = []
        handle = self.projection.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach()[0]))
        try:
            with torch.no_grad():
                self.model(input_ids=torch.tensor([ids], device=self.model.device), use_cache=False)
        finally:
            handle.remove()
        return caught[0]

    def find(self, edit: Row, search: Search) -> RankOne:
        """The change by which the model, as it is now, says the edit's target."""
        import torch

        if self._inverse is None:
            raise RuntimeError("the keys are learned before an edit is searched for")
        contexts = ["", *(f"{' '.join(text.split()[:_PREFIX_WORDS])}. " for text in self.texts[: search.contexts])]
        end = edit["prompt"].index(edit["subject"]) + len(edit["subject"])
        keys = []
        for context in contexts:
            ids, offsets = _tokens(self.tokenizer, context + edit["prompt"])
            keys.append(self._keys(ids)[_last_token(offsets, len(context) + end)].double())
        delta = self._value(edit, contexts, end, search)
        direction = self._inverse @ torch.stack(keys).mean(0)
        row = direction / (keys[0] @ direction)
        return RankOne(delta.tolist(), row.float().tolist())

    def _value(self, edit: Row, contexts: Sequence[str], end: int, search: Search) -> Any:
        """What is to be added to the subject's value, found by gradient descent."""
        import torch

        probes = [probe(self.tokenizer, context + edit["prompt"], edit["target"]) for context in contexts]
        essence = _ESSENCE.format(edit["subject"])
        essence_ids, essence_offsets = _tokens(self.tokenizer, essence)
        ids, there = padded([*(one.ids for one in probes), essence_ids], 0, self.model.device)
        places = [
            _last_token(_tokens(self.tokenizer, context + edit["prompt"])[1], len(context) + end)
            for context in contexts
        ]
        places.append(_last_token(essence_offsets, len(edit["subject"])))
        values: list[Any] = []
        with self._reading(values):
            before = self._log_odds(ids, there)[-1, len(essence_ids) - 1]
        start = values[0][0, places[0]]
        delta = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=search.learning_rate)
        with self._adding(delta, places):
            for _ in range(search.steps):
                self.context.sign_of_life()
                odds = self._log_odds(ids, there, learns=True)
                losses = torch.stack(
                    [
                        -_target_odds(odds[place], one).sum() / (len(one.ids) - one.start)
                        for place, one in enumerate(probes)
                    ]
                )
                if losses.detach().max().item() < -math.log(_SURE):
                    break
                now = odds[-1, len(essence_ids) - 1]
                drift = torch.nn.functional.kl_div(now, before, log_target=True, reduction="sum")
                optimizer.zero_grad()
                (losses.mean() + search.kl_weight * drift).backward()
                optimizer.step()
                with torch.no_grad():
                    longest = search.max_change * start.norm()
                    if delta.norm() > longest:
                        delta.mul_(longest / delta.norm())
        return delta.detach()

    def _log_odds(self, ids: Any, there: Any, *, learns: bool = False) -> Any:
        import torch

        with torch.set_grad_enabled(learns):
            return self.model(input_ids=ids, attention_mask=there, use_cache=False).logits.float().log_softmax(-1)

    @contextmanager
    def _reading(self, values: list[Any]) -> Iterator[None]:
        handle = self.projection.register_forward_hook(lambda _, __, output: values.append(output.detach().clone()))
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _adding(self, delta: Any, places: Sequence[int]) -> Iterator[None]:
        """Have the value at one token of each row be `delta` more."""

        def add(_: Any, __: Any, output: Any) -> Any:
            output = output.clone()
            output[range(len(places)), list(places)] += delta
            return output

        handle = self.projection.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()

    def write(self, change: RankOne) -> None:
        """Add a change to the weights."""
        import torch

        weight = self.projection.weight
        column, row = (torch.tensor(part, dtype=weight.dtype, device=weight.device) for part in change)
        weight.data.add_(torch.outer(column, row))


def _last_token(offsets: Sequence[Span], end: int) -> int:
    """The last token that begins before the character at `end`."""
    return max(place for place, (start, _) in enumerate(offsets) if start < end)


def _target_odds(odds: Any, one: Probe) -> Any:
    """The log-probability of each token of the target."""
    import torch

    wanted = torch.tensor(one.ids[one.start :], device=odds.device)
    return odds[one.start - 1 : len(one.ids) - 1].gather(1, wanted[:, None])[:, 0]


def _projection(model: Any, layer: int | str) -> tuple[int, Any]:
    """The number of a layer, `auto` included, and the last linear layer of its feed-forward block."""
    import torch

    blocks = max((module for module in model.modules() if isinstance(module, torch.nn.ModuleList)), key=len, default=())
    place = round(_AUTO_DEPTH * (len(blocks) - 1)) if layer == "auto" else int(layer)
    if place >= len(blocks):
        problem = f"must be below {len(blocks)}, the number of the model's layers, or auto"
        raise ConfigError(f"layer {problem}.", fields={"config.layer": [problem]})
    for name, module in blocks[place].named_modules():
        if name.rpartition(".")[2] in _PROJECTIONS and isinstance(module, torch.nn.Linear):
            return place, module
    raise ModelError(
        "The model has no feed-forward layer that is known here to hold facts.",
        code="model.architecture",
        advice="Take a dense model such as Llama, Qwen2, Gemma or Mistral.",
    )
