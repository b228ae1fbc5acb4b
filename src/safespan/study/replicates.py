"""A study under several seeds, side by side, and the verdicts about its recipe."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from safespan.errors import ConfigError
from safespan.execution import execution
from safespan.files.disk import explain_disk_full
from safespan.files.locks import exclusive_lock
from safespan.progress import progress_task, step
from safespan.report import write_comparison
from safespan.results import RunFolder
from safespan.settings import ExecutionConfig, StudyConfig
from safespan.study.run import check_study, run_study


@dataclass(frozen=True, eq=False)
class SeedJob:
    """A study under one seed, for any process.

    Attributes:
        name: in messages.
        config: the study.
        out: its run folder.
        command: how to run it again.
    """

    name: str
    config: StudyConfig
    out: Path
    command: str


class SeedWorker:
    """Runs studies."""

    def __call__(self, job: SeedJob) -> None:
        """Run a study, or what is left of it."""
        run_study(job.config, job.out, job.command)

    def close(self) -> None:
        """Nothing to close."""


def run_replicates(config: StudyConfig, out: Path, command: str = "safespan run") -> Path:
    """Run a study under every of its seeds, each in `seeds/N` of a folder, and pool them.

    Args:
        config: the study, with its number of replicates.
        out: the folder.
        command: how to run it again.

    Returns:
        The path of the page that has all seeds side by side, and the pooled verdicts. They are also in
        `results/pooled.csv`.

    Raises:
        SafespanError: bad input, in one line.
    """
    if not any(source.train for source in config.models.values()):
        raise ConfigError(
            "replicates: this study trains no model, so its seeds would all test the same ones; leave it out, or give "
            "models that are trained"
        )
    check_study(config, out)
    with explain_disk_full(out), exclusive_lock(out), closing(execution(config.execution)) as where:
        side_by_side = min(where.workers, config.replicates)
        own = ExecutionConfig(
            workers=max(1, where.workers // side_by_side),
            cpus_per_worker=config.execution.cpus_per_worker,
            cache=config.execution.cache,
        )
        jobs = []
        for seed in range(config.seed, config.seed + config.replicates):
            study = config.model_copy(update={"seed": seed, "replicates": 1, "execution": own})
            jobs.append(SeedJob(f"seed {seed}", study, out.absolute() / "seeds" / str(seed), command))
        with progress_task("seeds") as tick:
            for number, _ in enumerate(where.run_jobs(SeedWorker, jobs, lambda job: job.name), 1):
                tick(number, len(jobs))
        with step("pooled verdicts"):
            return write_comparison([RunFolder(job.out) for job in jobs], out)
