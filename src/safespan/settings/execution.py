"""Settings of the execution."""

from typing import Literal

from pydantic import Field

from safespan.settings.base import Settings


class ExecutionConfig(Settings):
    """Where decompositions, trainings and points run."""

    engine: Literal["local", "ray"] = Field("local", description="this machine, or a Ray cluster")
    address: str | None = Field(
        None,
        description="of the Ray cluster: HOST:PORT of its head, or auto; unset: one is started here",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="models under test, or in training, at a time, each in a process; 1: in the command's own, on the "
        "study's threads; unset: all that the cores and the memory, or the cluster, allow, and on a GPU here 1",
    )
    gpus_per_worker: float = Field(0, ge=0, description="GPUs that each worker, and each decomposition, is given")
    cpus_per_worker: int = Field(1, ge=1, description="CPU threads of each worker")
    cache: bool = Field(True, description="keep decompositions on disk for later commands")
