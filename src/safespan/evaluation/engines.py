"""Engines of models under test: the memory of this process, one vLLM, or an lm-eval model on a checkpoint folder."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safespan.checkpoints import AdaptedCheckpoint, Checkpoint
from safespan.evaluation.folder_engines import Weights, as_written, kind_of, opened, written
from safespan.evaluation.model import ModelUnderTest, WeightSwitch, load_model
from safespan.evaluation.prompting import Prompting
from safespan.evaluation.vllm_settings import ENGINE, starting, why_not_in_place
from safespan.files.scratch import scratch_folder
from safespan.linalg.kernels import squared_norm
from safespan.models.folders import linked
from safespan.progress import note
from safespan.projection import Change

if TYPE_CHECKING:
    from safespan.evaluation.vllm_engine import InPlace


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
            own weights. vLLM is started once, and `close` ends it; where its weights cannot be changed in place, and
            with any other engine, each set of weights has a checkpoint and an engine of its own.
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

    @cached_property
    def _vllm(self) -> "InPlace | None":
        if self._engine.name != ENGINE:
            return None
        if why := why_not_in_place(self._engine, self._aligned):
            note(f"engine vllm: {why}, so each point has a checkpoint and an engine of its own")
            return None
        with starting(self._engine):
            kind_of(self._engine)
            from safespan.evaluation.vllm_engine import InPlace, in_place_arguments

            start = partial(model_of, self._prompting, self._aligned, self._scratch, **in_place_arguments())
        return InPlace(start, lambda: as_written(self._aligned, _own(self._aligned), hashlib.sha256()))

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
        elif vllm := self._vllm:
            digest = hashlib.sha256()
            kept = list(as_written(self._aligned, weights(), digest))
            yield Switched(digest.hexdigest(), sum(energies), lambda: vllm.give(kept))
        else:
            with written(self._aligned, weights(), self._scratch) as (folder, sha256), ExitStack() as running:
                start = partial(opened, self._prompting, self._aligned, folder)
                yield Switched(sha256, sum(energies), lambda: running.enter_context(start()))

    def close(self) -> None:
        """Restore the model's own weights in memory, or end vLLM."""
        if "_loaded" in vars(self):
            self._loaded[1].restore()
        if vllm := vars(self).get("_vllm"):
            vllm.close()


@contextmanager
def model_of(prompting: Prompting, checkpoint: Checkpoint, scratch: Path, **more: Any) -> Iterator[ModelUnderTest]:
    """Open a model, and end its engine; an adapter is merged, in memory or into a temporary folder.

    Args:
        prompting: how it is prompted, and by which engine.
        checkpoint: the model.
        scratch: an existing folder for a checkpoint.
        more: arguments of an lm-eval model beside those of the settings.
    """
    if prompting.config.engine.name == "memory":
        yield load_model(checkpoint, prompting)
    elif checkpoint.adapter is None:
        with scratch_folder(scratch, "model") as parent:
            folder = linked(checkpoint.folder, parent / "model")
            with opened(prompting, checkpoint, folder, **more) as model:
                yield model
    else:
        own = AdaptedCheckpoint(checkpoint.folder, checkpoint.adapter)  # all rows, whatever it is compared with
        with (
            written(checkpoint, _own(own), scratch) as (folder, _),
            opened(prompting, checkpoint, folder, **more) as model,
        ):
            yield model


def _own(checkpoint: Checkpoint) -> Weights:
    return ((name, checkpoint.load(name)) for name in checkpoint.names)
