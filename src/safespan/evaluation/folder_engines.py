"""Models of lm-eval that read a checkpoint folder: their start and their end."""

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import get_model

from safespan.checkpoints import Checkpoint, write_checkpoint
from safespan.checkpoints.updates import rounded
from safespan.errors import ConfigError, first_line
from safespan.evaluation.harness import hide_bar, prepare_harness
from safespan.evaluation.harness_models import under_test
from safespan.evaluation.model import ModelUnderTest, add_to_hash
from safespan.evaluation.prompting import Prompting
from safespan.evaluation.vllm_settings import ENGINE, starting, vllm_arguments
from safespan.files.scratch import scratch_folder
from safespan.linalg.device import device
from safespan.models.loading import as_checkpoint_error, read_tokenizer
from safespan.settings.evaluation import CHECKPOINT, EngineConfig

Weights = Iterable[tuple[str, torch.Tensor]]
"""(name, tensor) of every weight of a model."""


def as_written(like: Checkpoint, weights: Weights, digest: "hashlib._Hash") -> Iterator[tuple[str, torch.Tensor]]:
    """These weights under the names, in the shapes and dtypes, of a checkpoint's files; each is added to the hash."""
    base = Checkpoint(like.folder)  # with an adapter, weights are loaded in fp32; the base's files have its dtype
    for name, tensor in base.whole(weights):
        cast = rounded(name, tensor, base.dtype(name)).cpu()
        add_to_hash(digest, name, cast)
        yield name, cast


@contextmanager
def written(like: Checkpoint, weights: Weights, scratch: Path) -> Iterator[tuple[Path, str]]:
    """A temporary checkpoint of these weights, and their hash."""
    digest = hashlib.sha256()
    with scratch_folder(scratch, "point") as parent:
        folder = parent / "model"
        provenance = {"made_by": "safespan, for one evaluation"}
        stored = as_written(like, weights, digest)
        write_checkpoint(folder, stored, like.folder, provenance, temporary=True, adapter=like.adapter)
        yield folder, digest.hexdigest()


@contextmanager
def opened(prompting: Prompting, checkpoint: Checkpoint, folder: Path, **more: Any) -> Iterator[ModelUnderTest]:
    """A temporary folder with the weights of a model, or with others in their place, as a running engine.

    On leaving the engine is ended, so that the next one finds its memory free.

    Args:
        prompting: how it is prompted, and by which engine.
        checkpoint: the model.
        folder: its generation configuration is replaced, for engines that read it.
        more: arguments of the lm-eval model beside those of the settings.
    """
    model = _start(prompting, checkpoint, folder, more)
    try:
        yield model
    finally:
        end(model.lm)


def _start(prompting: Prompting, checkpoint: Checkpoint, folder: Path, more: dict[str, Any]) -> ModelUnderTest:
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
    around: AbstractContextManager[None] = nullcontext()
    if engine.name == "hf":  # the default of lm-eval is a GPU
        arguments.setdefault("device", str(device()))
    if engine.name == ENGINE:
        arguments = vllm_arguments(engine, checkpoint, folder) | arguments
        around = starting(engine)
    with around:
        kind = kind_of(engine)
        try:
            lm = kind.create_from_arg_obj(arguments | more, {"batch_size": engine.batch_size})
        except Exception as error:  # of every type
            raise ConfigError(f"engine {engine.name!r} cannot be started on {name} ({first_line(error)})") from error
    lm.use(chat_format)
    return ModelUnderTest(lm, chat_format)


def kind_of(engine: EngineConfig) -> Any:
    """The class of an engine.

    Raises:
        ConfigError: there is none of that name, or it needs a package that is not installed.
    """
    try:
        kind = get_model(engine.name)
    except ImportError as error:
        told = f"engine {engine.name!r} needs a package that is not installed or cannot be loaded"
        raise ConfigError(f"{told} ({first_line(error)})") from error
    except ValueError:
        raise ConfigError(f"engine {engine.name!r} is neither memory nor a model of lm-eval") from None
    if engine.name == ENGINE:
        hide_bar(kind)
    return under_test(kind)


def end(lm: LM) -> None:
    """End an engine and free its memory, whoever still holds it."""
    engine = getattr(lm, "model", None)
    core = getattr(getattr(engine, "llm_engine", None), "engine_core", None)
    for part in (core, engine):  # of vLLM, and of SGLang
        stop: Callable[[], None] | None = getattr(part, "shutdown", None)
        if stop is not None:
            stop()
            break
    del engine, core
    vars(lm).clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
