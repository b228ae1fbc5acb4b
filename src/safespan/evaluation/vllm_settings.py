"""How vLLM is started, and when its weights can be changed in place. It is not imported here."""

import importlib.metadata
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from safespan.checkpoints import Checkpoint
from safespan.checkpoints.names import is_head
from safespan.errors import CheckpointError
from safespan.linalg.device import device
from safespan.models.loading import PLAIN
from safespan.settings.evaluation import EngineConfig

ENGINE = "vllm"
"""The name of lm-eval's model."""

CACHE_BYTES = 4 * 2**30
"""Memory for keys and values on a CPU, unless told otherwise: vLLM itself would take nearly all memory."""

_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",  # it would send them to a server
}
_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
_NOT_IN_PLACE = ("quantization", "lora_local_path", "speculative_config", "distributed_executor_backend")
"""Arguments with which vLLM holds other weights beside those of the checkpoint, or holds them in another process."""


def why_not_in_place(engine: EngineConfig, aligned: Checkpoint) -> str | None:
    """Why the weights of this engine are not changed in place; None if they are.

    Args:
        engine: vLLM.
        aligned: the model.
    """
    if told := _several_processes(engine):
        return told
    for argument in _NOT_IN_PLACE:
        if engine.model_args.get(argument):
            return f"{argument} is set"
    if any(len(shape) > 2 or ".experts." in name for name, shape in aligned.shapes.items()):
        return f"{aligned.name} is a mixture of experts"
    return None


def _several_processes(engine: EngineConfig) -> str | None:
    several = (name for name in _PARALLEL if str(engine.model_args.get(name) or 1).strip() != "1")
    return next((f"{name} is {engine.model_args[name]}" for name in several), None)


def vllm_arguments(engine: EngineConfig, model: Checkpoint, folder: Path) -> dict[str, Any]:
    """Arguments that vLLM gets unless the settings give others.

    The dtype is the checkpoint's own, of most of its numbers where tensors have different ones: vLLM has one dtype for
    all, and would itself answer for a float32 checkpoint in bfloat16.

    Args:
        engine: vLLM.
        model: whose weights count.
        folder: with its files, or with others of the same names and shapes.

    Raises:
        CheckpointError: vLLM would not read all of the model.
    """
    ties = AutoConfig.from_pretrained(folder, **PLAIN).get_text_config().tie_word_embeddings
    if ties and (heads := [name for name in model.names if is_head(name)]):
        raise CheckpointError(
            f"{model.name}: {heads[0]} has numbers of its own, and config.json ties it to the embedding: vLLM would "
            "not read it; use the engine memory"
        )
    files = Checkpoint(folder)
    numbers: Counter[torch.dtype] = Counter()
    for name, shape in files.shapes.items():
        numbers[files.dtype(name)] += prod(shape)
    own = str(numbers.most_common(1)[0][0]).removeprefix("torch.")
    arguments: dict[str, Any] = {"dtype": own if engine.dtype == "auto" else engine.dtype, "use_tqdm_on_load": False}
    if device().type == "cpu" and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        arguments["kv_cache_memory_bytes"] = CACHE_BYTES
    return arguments


@contextmanager
def starting(engine: EngineConfig) -> Iterator[None]:
    """Inside, vLLM is imported and started, quietly and in this process where that can be.

    It sets the seeds of the process, environment variables and the number of threads, and puts a function that does
    nothing in the place of `torch.set_num_threads`. All of this is as before on leaving.
    """
    environment, seeds = dict(os.environ), (random.getstate(), np.random.get_state())
    set_threads, number = torch.set_num_threads, torch.get_num_threads()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not _several_processes(engine):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    importlib.metadata.version = _version
    try:
        with torch.random.fork_rng():
            yield
    finally:
        importlib.metadata.version = _VERSION
        os.environ.clear()
        os.environ.update(environment)
        random.setstate(seeds[0])
        np.random.set_state(seeds[1])
        torch.set_num_threads = set_threads
        torch.set_num_threads(number)


_VERSION = importlib.metadata.version


def _version(distribution_name: str) -> str:
    """The version of a package. lm-eval asks for that of vllm; built for CPUs, the package has the name vllm-cpu."""
    try:
        return _VERSION(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != ENGINE:
            raise
        return f"{_VERSION('vllm-cpu')}+cpu"  # as vLLM itself does
