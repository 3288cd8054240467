"""Which weights or layers of a model matter least, and a model without them.

Linear layers within the decoder's layers are pruned; embeddings, norms and the output head stay whole.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from transformers import TrainerCallback

from polm_core.errors import ModelError

Structure = Literal["unstructured", "2:4"]
Check = Callable[[], None]
Ids = Sequence[Sequence[int]]


def prune_by_magnitude(model: Any, sparsity: float, structure: Structure, check: Check) -> None:
    """Set the smallest weights of each linear layer to zero."""
    for layer in decoder_layers(model):
        check()
        for _, linear in _linears(layer):
            scores = linear.weight.detach().abs()
            if structure == "2:4":
                _zero(linear, _two_of_four(scores))
            else:
                _zero(linear, _lowest(scores.view(1, -1), sparsity).view_as(scores))


def prune_by_wanda(model: Any, rows: Ids, sparsity: float, structure: Structure, check: Check) -> None:
    """Set the weights of each output to zero whose size, times the norm of what they weigh, is least.

    Wanda, arXiv 2306.11695: layer after layer, each one seeing what comes out of those that are pruned already.
    """
    import torch

    layers = decoder_layers(model)
    with torch.no_grad():
        hidden, others = _inputs(model, layers, rows)
        for place, layer in enumerate(layers):
            check()
            linears = list(_linears(layer))
            norms = _input_norms(linears, layer, hidden, [each[place] for each in others])
            for name, linear in linears:
                scores = linear.weight.abs() * norms[name]
                _zero(linear, _two_of_four(scores) if structure == "2:4" else _lowest(scores, sparsity))
            hidden = [_output(layer, state, each[place]) for state, each in zip(hidden, others, strict=True)]


def block_influences(model: Any, rows: Ids, check: Check) -> list[float]:
    """How much each layer changes what goes through it: 1 less the mean cosine of its input and output.

    Block influence, as in ShortGPT, arXiv 2403.03853.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    layers = decoder_layers(model)
    sums, tokens = [0.0] * len(layers), 0

    def watch(place: int) -> Any:
        def look(module: Any, given: Any, kwargs: Any, output: Any) -> None:
            before = given[0] if given else kwargs["hidden_states"]
            sums[place] += float((1 - cosine_similarity(before.float(), _first(output).float(), dim=-1)).sum())

        return layers[place].register_forward_hook(look, with_kwargs=True)

    hooks = [watch(place) for place in range(len(layers))]
    try:
        with torch.no_grad():
            for ids in rows:
                check()
                model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=1)
                tokens += len(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return [total / tokens for total in sums]


def remove_layers(model: Any, places: Sequence[int]) -> None:
    """Take layers out; what the config says of each layer goes with them. To be used, it is saved and loaded anew."""
    import torch

    layers, config = decoder_layers(model), model.config
    kept = [place for place in range(len(layers)) if place not in set(places)]
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == len(layers):
            setattr(config, name, [value[place] for place in kept])
    config.num_hidden_layers = len(kept)
    model.base_model.layers = torch.nn.ModuleList([layers[place] for place in kept])


def decoder_layers(model: Any) -> Any:
    """The layers that a model consists of. Raises `ModelError` for one that is built otherwise."""
    import torch

    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or not all(list(_linears(layer)) for layer in layers):
        raise ModelError(
            f"Models of the kind {model.config.model_type} cannot be pruned: they are no row of linear layers.",
            code="model.layers",
            advice="Take one of a family such as Llama, Qwen, Mistral or Gemma.",
        )
    return layers


def nonzero_share(model: Any) -> float:
    """The share of the weights of the linear layers in the decoder that are not zero."""
    weights = [linear.weight for layer in decoder_layers(model) for _, linear in _linears(layer)]
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


class KeepZero(TrainerCallback):
    """Sets the weights that were zero to zero again after each step of the optimiser."""

    def __init__(self, model: Any) -> None:
        self._kept = [(linear, linear.weight != 0) for layer in decoder_layers(model) for _, linear in _linears(layer)]

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        for linear, kept in self._kept:
            linear.weight.data.mul_(kept)


def recovering(trainer: type, held_out: Callable[[Any], dict[str, float]]) -> type:
    """A trainer like `trainer` that leaves zeros as they are, and evaluates by what `held_out` says of the model."""

    class Recovers(trainer):
        control: Any

        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.add_callback(KeepZero(self.model))

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            self.model.eval()
            metrics = {
                f"eval_{key.removeprefix('eval/')}" if key.startswith("eval/") else key: value
                for key, value in held_out(self.model).items()
            }
            self.log(dict(metrics))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    return Recovers


def _linears(layer: Any) -> Iterator[tuple[str, Any]]:
    import torch

    return ((name, module) for name, module in layer.named_modules() if isinstance(module, torch.nn.Linear))


def _zero(linear: Any, lowest: Any) -> None:
    linear.weight.data.masked_fill_(lowest, 0)


def _lowest(scores: Any, sparsity: float) -> Any:
    """Which scores of each row are its lowest share; of equal ones so many that the share is kept."""
    import torch

    places = scores.argsort(dim=1, stable=True)[:, : int(scores.shape[1] * sparsity)]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, places, True)


def _two_of_four(scores: Any) -> Any:
    """The two lowest of each four that stand beside each other in a row."""
    return _lowest(scores.reshape(-1, 4), 0.5).view_as(scores)


def _inputs(model: Any, layers: Any, rows: Ids) -> tuple[list[Any], list[list[dict[str, Any]]]]:
    """What the first layer is given of each row, and what all layers are given besides: for each row, for each layer.

    Layers may differ in that, by their attention.
    """
    import torch

    hidden: list[Any] = []
    others: list[list[dict[str, Any]]] = []

    def catch(place: int) -> Any:
        def look(module: Any, given: Any, kwargs: Any) -> None:
            if place == 0:
                hidden.append(given[0] if given else kwargs["hidden_states"])
                others.append([])
            others[-1].append({name: value for name, value in kwargs.items() if name != "hidden_states"})

        return layers[place].register_forward_pre_hook(look, with_kwargs=True)

    hooks = [catch(place) for place in range(len(layers))]
    try:
        for ids in rows:
            model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return hidden, others


def _input_norms(
    linears: Sequence[tuple[str, Any]], layer: Any, hidden: Sequence[Any], others: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The L2 norm of each input of each linear layer, over all tokens."""
    squares: dict[str, Any] = {}

    def watch(name: str, linear: Any) -> Any:
        def look(module: Any, given: Any) -> None:
            found = given[0].float().flatten(0, -2).square().sum(0)
            squares[name] = squares[name] + found if name in squares else found

        return linear.register_forward_pre_hook(look)

    hooks = [watch(name, linear) for name, linear in linears]
    try:
        for state, more in zip(hidden, others, strict=True):
            layer(state, **more)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: square.sqrt() for name, square in squares.items()}


def _output(layer: Any, state: Any, others: dict[str, Any]) -> Any:
    return _first(layer(state, **others))


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
