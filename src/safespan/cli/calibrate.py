"""The command that measures how fast this machine is, for the times of a dry run."""

from typing import Annotated

import typer

from safespan.cli.app import command
from safespan.cli.output import CommandOutput
from safespan.settings.instructions import take_one_path


@command()
def calibrate(
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, as a process of the runs has them")] = 1,
) -> CommandOutput:
    """Measure how long each kind of work takes here, for the times of `--dry-run`: about a minute on two cores.

    Small real pieces of work are done on models of the embedded family. Do it while nothing else runs. What is measured
    is kept in the cache folder (SAFESPAN_CACHE) for this processor, device and number of threads.
    """
    take_one_path()  # as the embedded family's runs do
    from safespan.study.costs.calibration import calibrate as measure

    made, path = measure(threads)
    lines = [f"{name:<36}{seconds:.3g} s" for name, seconds in made.seconds.items()]
    return CommandOutput({"file": str(path), **made.model_dump(mode="json")}, [*lines, f"calibration: {path}"], [path])
