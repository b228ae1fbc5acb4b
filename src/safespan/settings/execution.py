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
        description="processes that test or train a model at the same time; 1: the command's own process, with the "
        "`threads` of the study; unset: as many as the cores and the memory (or the cluster) allow, and 1 if this "
        "machine has a GPU",
    )
    gpus_per_worker: float = Field(0, ge=0, description="GPUs that each worker, and each decomposition, is given")
    cpus_per_worker: int = Field(1, ge=1, description="CPU threads of each worker")
    cache: bool = Field(True, description="keep decompositions on disk for later commands")
