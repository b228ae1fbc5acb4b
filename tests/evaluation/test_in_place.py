"""No answer comes from weights that an engine did not take. vLLM is replaced by classes without work of their own."""

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
import torch

import safespan.evaluation
from safespan.errors import ConfigError

EMBEDDING, BLOCK = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
OWN = [(EMBEDDING, torch.linspace(-3, -1, 12).reshape(6, 2)), (BLOCK, torch.ones(2, 2))]
OTHER = [(EMBEDDING, torch.linspace(-2, -1, 12).reshape(6, 2)), (BLOCK, torch.full((2, 2), 0.7))]

_X, _Y = TypeVar("_X"), TypeVar("_Y")


class _Generic(Generic[_X, _Y]):
    """In the place of vLLM's classes that are derived from."""


@pytest.fixture
def vllm_engine(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module, imported without vLLM."""
    names = {
        "vllm.config": ["WeightTransferConfig"],
        "vllm.distributed.weight_transfer": ["WeightTransferEngineFactory"],
        "vllm.distributed.weight_transfer.base": ["WeightTransferInitInfo", "WeightTransferUpdateInfo"],
        "vllm.model_executor.layers.vocab_parallel_embedding": ["VocabParallelEmbedding"],
        "vllm.model_executor.model_loader.reload": ["finalize_layerwise_reload", "initialize_layerwise_reload"],
    }
    for path, members in names.items():
        parts = path.split(".")
        for depth in range(1, len(parts)):
            parent = ".".join(parts[:depth])
            if parent not in names:
                monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        module = types.ModuleType(path)
        vars(module).update({member: type(member, (), {}) for member in members})
        vars(module)["WeightTransferEngine"] = _Generic
        monkeypatch.setitem(sys.modules, path, module)
    file = Path(safespan.evaluation.__file__).with_name("vllm_engine.py")
    spec = importlib.util.spec_from_file_location("vllm_engine_alone", file)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Engine:
    """What vLLM offers for weights. The step in `fails` raises, as far as `weights` it is the engine of a table."""

    def __init__(self) -> None:
        self.weights = dict(OWN)
        self.cached: dict[tuple[int, ...], float] = {}
        self.fails, self.empties = "", True

    def _step(self, name: str) -> None:
        if self.fails == name:
            raise RuntimeError(f"{name} failed\nand more")

    def start_weight_update(self) -> None:
        self._step("start")

    def update_weights(self, request: dict[str, Any]) -> None:
        given = request["update_info"]["weights"]
        self.weights |= dict(given[:1])  # half of them, if it fails here
        self._step("update")
        self.weights |= dict(given)

    def finish_weight_update(self) -> None:
        self._step("finish")

    def reset_prefix_cache(self) -> bool:
        self._step("reset")
        if self.empties:
            self.cached.clear()
        return self.empties


class Model:
    """An lm-eval model whose likelihoods depend on all weights, and are kept for prompts that come again."""

    max_length = 64

    def __init__(self) -> None:
        self.model = Engine()

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool) -> list[tuple[float, bool]]:
        said = []
        for _, before, after in requests:
            ids = (*before, *after)
            table, block = self.model.weights[EMBEDDING], self.model.weights[BLOCK]
            value = float((table[list(ids)] @ block).sum())
            said.append((self.model.cached.setdefault(ids, value), True))
        return said


@pytest.fixture
def started() -> list[Model]:
    return []


@pytest.fixture
def in_place(vllm_engine: types.ModuleType, started: list[Model]) -> Any:
    @contextmanager
    def start() -> Iterator[Any]:
        started.append(Model())
        yield types.SimpleNamespace(lm=started[-1])
        vars(started[-1]).clear()

    return vllm_engine.InPlace(start, lambda: iter(OWN))


def asked(model: Any) -> float:
    return model.lm._loglikelihood_tokens([(("", ""), [0], [1, 2])], disable_tqdm=True)[0][0]


def expected(weights: list[tuple[str, torch.Tensor]]) -> float:
    table, block = dict(weights)[EMBEDDING], dict(weights)[BLOCK]
    return float((table[:3] @ block).sum())


def test_each_answer_is_of_the_weights_that_were_given_last(in_place: Any, started: list[Model]) -> None:
    for weights in (OTHER, OWN, OTHER, OTHER):
        assert asked(in_place.give(weights)) == expected(weights)
    assert len(started) == 1
    in_place.close()
    assert vars(started[0]) == {}


@pytest.mark.parametrize("step", ["start", "update", "finish", "reset"])
def test_after_a_failed_update_the_engine_is_gone_and_a_new_one_answers(
    in_place: Any, started: list[Model], step: str
) -> None:
    model = in_place.give(OTHER)
    started[0].model.fails = step
    with pytest.raises(ConfigError, match=rf"does not take weights in place \({step} failed\); use the engine memory"):
        in_place.give(OWN)
    assert vars(started[0]) == {}
    with pytest.raises(AttributeError):  # whoever still holds the model gets no answer of the weights before
        asked(model)
    assert asked(in_place.give(OWN)) == expected(OWN)
    assert len(started) == 2


def test_a_prefix_cache_that_is_not_emptied_ends_the_engine(in_place: Any, started: list[Model]) -> None:
    in_place.give(OTHER)
    started[0].model.empties = False
    with pytest.raises(ConfigError, match="keeps its prefix cache, which belongs to other weights"):
        in_place.give(OWN)
    assert vars(started[0]) == {}


@pytest.mark.parametrize("weights", [OWN[:1], OWN[1:], [*OWN, ("another", torch.ones(1))]])
def test_weights_that_are_not_those_of_the_model_end_the_engine(in_place: Any, started: list[Model], weights) -> None:
    in_place.give(OTHER)
    with pytest.raises(ConfigError, match="needs all weights of the model each time"):
        in_place.give(weights)
    assert vars(started[0]) == {}


def _ignored(self: Engine, request: dict[str, Any]) -> None:
    """No weight is taken."""


def _table_alone(self: Engine, request: dict[str, Any]) -> None:
    self.weights |= {name: tensor for name, tensor in request["update_info"]["weights"] if name == EMBEDDING}


def _kept(self: Engine) -> bool:
    return True


@pytest.mark.parametrize(
    ("method", "replacement", "says"),
    [
        ("update_weights", _ignored, "its answers are not those of the weights that it was given"),
        ("update_weights", _table_alone, "its answers stay as they were with other weights"),
        ("reset_prefix_cache", _kept, "its answers are not those of the weights that it was given"),
    ],
)
def test_an_engine_that_does_not_take_weights_is_refused_at_its_start(
    in_place: Any, started: list[Model], monkeypatch, method: str, replacement: Callable[..., Any], says: str
) -> None:
    monkeypatch.setattr(Engine, method, replacement)
    with pytest.raises(ConfigError, match=says):
        in_place.give(OTHER)
    assert vars(started[0]) == {}
