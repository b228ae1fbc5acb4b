"""Execution of a study's work in this process, or on a Ray cluster."""

from safespan.errors import ConfigError
from safespan.execution.local import Execution, Local
from safespan.execution.ray import OnRay
from safespan.settings.execution import ExecutionConfig


def execution(config: ExecutionConfig) -> Execution:
    """The execution of a study.

    Raises:
        ConfigError: an address without engine ray, or what `OnRay` raises.
    """
    if config.address and config.engine != "ray":
        raise ConfigError(f"address {config.address!r} is of a Ray cluster: choose engine ray, or leave it out")
    return OnRay(config) if config.engine == "ray" else Local()
