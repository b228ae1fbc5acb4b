"""The weights of a model in memory under the names and shapes that its files have.

Transformers renames some weights when it reads them, and fuses those of a mixture's experts. Its own reversal of that
is used; every result is a view, so that what is written into it is written into the model.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion

from safespan.errors import CheckpointError
from safespan.linalg.stacks import matrices, matrix_names
from safespan.models.loading import PLAIN, model_class


class _AsViews(TorchFunctionMode):
    """Inside, tensors are not copied."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.contiguous, torch.Tensor.clone):
            return args[0]
        return func(*args, **(kwargs or {}))


def stored_views(model: torch.nn.Module, known: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Name in the files -> view of the weight in memory.

    Args:
        model: whose names and fusions are reversed.
        known: its weights by their names in memory; all that are stored, if None.

    Raises:
        CheckpointError: a weight is stored in a form that is no part of one in memory.
    """
    known = dict(model.state_dict() if known is None else known)
    if not isinstance(model, PreTrainedModel):
        return known
    with torch.no_grad(), _AsViews():
        views: dict[str, torch.Tensor] = revert_weight_conversion(model, known)
    own = {tensor.untyped_storage().data_ptr() for tensor in known.values()}
    copied = [name for name, view in views.items() if view.untyped_storage().data_ptr() not in own]
    if copied:
        raise CheckpointError(
            f"{model.name_or_path}: {copied[0]} is stored in another form than {type(model).__name__} has it in "
            "memory: such weights cannot be changed in place; use another engine than memory"
        )
    return views


class Part(NamedTuple):
    """Where a stored weight lies within one in memory: its arguments to `torch.Tensor.as_strided`."""

    within: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, whole: torch.Tensor) -> torch.Tensor:
        """This part of a contiguous tensor, as a view if it is contiguous too."""
        return whole.as_strided(self.shape, self.stride, whole.storage_offset() + self.offset).contiguous()


def parts_in_memory(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Part]:
    """Of weights that a file holds as memory does: name in other files -> part; empty where that is not exact.

    Args:
        folder: with the configuration.
        shapes: name -> shape of the weights in its files; those that are none of the model's in memory are passed over.
    """
    try:
        model = _without_weights(folder)
        own = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
        known = {name: torch.empty(shape, device="meta") for name, shape in shapes.items() if own.get(name) == shape}
        with torch.no_grad(), _AsViews():
            views: dict[str, torch.Tensor] = revert_weight_conversion(model, dict(known))
    except Exception:  # of every type; Transformers makes no model of it, or its conversion needs other weights too
        return {}
    names = {id(tensor): name for name, tensor in known.items()}
    parts = {
        name: Part(
            names.get(id(view), names.get(id(view._base), "")),
            tuple(view.shape),
            view.stride(),
            int(view.storage_offset()),
        )
        for name, view in views.items()
        if name not in known
    }
    moved = {part.within for part in parts.values()}
    held = sum(math.prod(part.shape) for part in parts.values()) == sum(math.prod(shapes[one]) for one in moved if one)
    return parts if "" not in moved and held and moved.isdisjoint(views) else {}


def _without_weights(folder: Path) -> Any:
    """The model of a folder's configuration, on no device."""
    config = AutoConfig.from_pretrained(folder, **PLAIN)
    with torch.device("meta"):
        return model_class(config).from_config(config)


def check_in_memory(folder: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a model some of whose stored weights Transformers does not make, before its weights are loaded.

    Args:
        folder: with the configuration; nothing is checked if Transformers makes no model of it.
        name: of the model, for messages.
        shapes: name -> shape of each stored weight that may be changed.

    Raises:
        CheckpointError: names the first one.
    """
    try:
        model = _without_weights(folder)
    except Exception:  # of every type; what loads the model says more of it
        return
    legacy = [one for one in get_model_conversion_mapping(model) if not isinstance(one, PrefixChange)]
    for conversions in (None, legacy):  # files of older versions of Transformers have other names
        if conversions is not None:
            model._weight_conversions = conversions
        made = stored_views(model)
        lost = [one for one, shape in shapes.items() if one not in made or tuple(made[one].shape) != shape]
        if not lost:
            return
    raise CheckpointError(
        f"{name}: {lost[0]} ({len(lost)} in all) is in its files, and not in the {type(model).__name__} that "
        "Transformers makes of it: its weights cannot be changed in memory; use another engine (engine.name of the "
        "evaluation)"
    )


class StoredMatrices:
    """The places of stored matrices in memory.

    Args:
        views: of `stored_views`.
    """

    def __init__(self, views: Mapping[str, torch.Tensor]) -> None:
        self._places = sorted((*_span(matrix), name) for name, matrix in _matrices(views))

    def within(self, weight: torch.Tensor) -> list[str]:
        """The names of those that are a weight in memory, or lie within it; `name[expert]` of a stack."""
        start, stop = _span(weight)
        first = bisect_left(self._places, (start,))
        behind = takewhile(lambda place: place[0] < stop, islice(self._places, first, None))
        return [name for _, last, name in behind if last <= stop]


def _matrices(views: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, view in views.items():
        yield from zip(matrix_names(name, tuple(view.shape)), matrices(view), strict=True)


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The first byte of a tensor, and the one behind its last."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (steps + 1) * tensor.element_size()
