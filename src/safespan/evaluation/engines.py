"""Engines of models under test: the memory of this process, or an lm-eval model that reads a checkpoint folder."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from lm_eval.api.registry import get_model

from safespan.checkpoints import AdaptedCheckpoint, Checkpoint, write_checkpoint
from safespan.checkpoints.updates import rounded
from safespan.errors import ConfigError, first_line
from safespan.evaluation.harness import prepare_harness
from safespan.evaluation.harness_models import under_test
from safespan.evaluation.model import ModelUnderTest, WeightSwitch, add_to_hash, load_model
from safespan.evaluation.prompting import Prompting
from safespan.files.scratch import scratch_folder
from safespan.linalg.device import device
from safespan.linalg.kernels import squared_norm
from safespan.models.folders import linked
from safespan.models.loading import as_checkpoint_error, read_tokenizer
from safespan.projection import Change
from safespan.settings.evaluation import CHECKPOINT

Weights = Iterable[tuple[str, torch.Tensor]]
"""(name, tensor) of every weight of a model."""


@dataclass(frozen=True)
class Switched:
    """A model with switched weights.

    Attributes:
        sha256: of the weights.
        energy: ‖·‖²_F of the change of the aligned model.
        open: opens the model.
    """

    sha256: str
    energy: float
    open: Callable[[], ModelUnderTest]


class SwitchedModel:
    """The aligned model with one set of weights after another.

    Args:
        prompting: how it is prompted, and by which engine. In memory it is loaded once, and `close` restores its
            own weights.
        aligned: the model; new weights are cast to its dtypes.
        scratch: an existing folder for checkpoints, for engines that read one.
    """

    def __init__(self, prompting: Prompting, aligned: Checkpoint, scratch: Path) -> None:
        self._prompting, self._aligned, self._scratch = prompting, aligned, scratch
        self._engine = prompting.config.engine

    @cached_property
    def _loaded(self) -> tuple[ModelUnderTest, WeightSwitch]:
        loaded = load_model(self._aligned, self._prompting)
        assert loaded.model is not None
        return loaded, WeightSwitch(loaded.model)

    @contextmanager
    def with_weights(self, changes: Iterable[Change]) -> Iterator[Switched]:
        """Switch to the weights of the aligned model with the changes of one point added."""
        energies: list[float] = []

        def weights() -> Weights:
            for name, change, _ in changes:
                energies.append(squared_norm(change))
                yield name, change + self._aligned.load(name).to(change)

        if self._engine.name == "memory":
            model, switch = self._loaded
            stored = ((name, self._aligned.as_stored(name, tensor)) for name, tensor in weights())
            yield Switched(switch.set(stored), sum(energies), lambda: model)
            return
        with _written(self._aligned, weights(), self._scratch) as (folder, sha256):
            yield Switched(sha256, sum(energies), lambda: _open(self._prompting, self._aligned, folder))

    def close(self) -> None:
        """Restore the model's own weights."""
        if "_loaded" in vars(self):
            self._loaded[1].restore()


@contextmanager
def model_of(prompting: Prompting, checkpoint: Checkpoint, scratch: Path) -> Iterator[ModelUnderTest]:
    """Open a model; an adapter is merged, in memory or into a temporary folder."""
    if prompting.config.engine.name == "memory":
        yield load_model(checkpoint, prompting)
    elif checkpoint.adapter is None:
        with scratch_folder(scratch, "model") as parent:
            yield _open(prompting, checkpoint, linked(checkpoint.folder, parent / "model"))
    else:
        own = AdaptedCheckpoint(checkpoint.folder, checkpoint.adapter)  # all rows, whatever it is compared with
        merged = ((name, own.load(name)) for name in own.names)
        with _written(checkpoint, merged, scratch) as (folder, _):
            yield _open(prompting, checkpoint, folder)


@contextmanager
def _written(like: Checkpoint, weights: Weights, scratch: Path) -> Iterator[tuple[Path, str]]:
    """A temporary checkpoint of these weights, and their hash."""
    digest = hashlib.sha256()

    def stored() -> Weights:
        for name, tensor in base.whole(weights):
            cast = rounded(name, tensor, base.dtype(name)).cpu()
            add_to_hash(digest, name, cast)
            yield name, cast

    with scratch_folder(scratch, "point") as parent:
        folder = parent / "model"
        base = Checkpoint(like.folder)  # with an adapter, weights are loaded in fp32; config.json has the base's dtype
        provenance = {"made_by": "safespan, for one evaluation"}
        write_checkpoint(folder, stored(), like.folder, provenance, temporary=True, adapter=like.adapter)
        yield folder, digest.hexdigest()


def _open(prompting: Prompting, checkpoint: Checkpoint, folder: Path) -> ModelUnderTest:
    """Open a temporary folder with the weights of a model, or with others in their place.

    Its generation configuration is replaced first, for engines that read it.
    """
    prepare_harness()
    engine, name = prompting.config.engine, checkpoint.name
    with as_checkpoint_error(f"{name}: its tokenizer cannot be loaded"):
        chat_format = prompting.format_of(checkpoint, read_tokenizer(folder, name))
    (folder / "generation_config.json").unlink(missing_ok=True)
    chat_format.generation_config.save_pretrained(folder)
    arguments = {
        argument: value.replace(CHECKPOINT, str(folder)) if isinstance(value, str) else value
        for argument, value in engine.model_args.items()
    }
    try:
        kind = under_test(get_model(engine.name))
    except ValueError:
        raise ConfigError(f"engine {engine.name!r} is neither memory nor a model of lm-eval") from None
    if engine.name == "hf":  # the default of lm-eval is a GPU
        arguments.setdefault("device", str(device()))
    try:
        lm = kind.create_from_arg_obj(arguments, {"batch_size": engine.batch_size})
    except (ImportError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"engine {engine.name!r} cannot be started on {name} ({first_line(error)})") from error
    lm.use(chat_format)
    return ModelUnderTest(lm, chat_format)
