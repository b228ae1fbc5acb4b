"""Execution of a study's work in this process, in several, or on a Ray cluster."""

from collections.abc import Callable

from safespan.errors import ConfigError
from safespan.execution.local import Execution
from safespan.execution.processes import Processes
from safespan.execution.ray import OnRay
from safespan.settings.execution import ExecutionConfig


def execution(config: ExecutionConfig, model_bytes: Callable[[], int] = lambda: 0) -> Execution:
    """The execution of a study.

    Args:
        model_bytes: bytes of a model's weights in float32, which limits the processes that this machine has memory for.

    Raises:
        ConfigError: an address without engine ray, or what `OnRay` raises.
    """
    if config.address and config.engine != "ray":
        raise ConfigError(f"address {config.address!r} is of a Ray cluster: choose engine ray, or leave it out")
    return OnRay(config) if config.engine == "ray" else Processes(config, model_bytes)
