"""What a run folder lacks: a run that has not ended, tables that are gone or are not those of its manifest."""

import logging
from collections.abc import Iterator

from pydantic import BaseModel, TypeAdapter, ValidationError

from safespan.errors import DataError
from safespan.files.content import content_hash
from safespan.results.manifest import Manifest
from safespan.results.run_folder import RunFolder
from safespan.results.tables import TABLES


class _Finished(BaseModel):
    """What is read of a stage in `stages.json`."""

    key: str


_STAGES = TypeAdapter(dict[str, _Finished])

_log = logging.getLogger(__name__)


def warned_problems(run: RunFolder, manifest: Manifest) -> list[str]:
    """The lines of `problems_of`, each also given as a warning."""
    problems = list(problems_of(run, manifest))
    for problem in problems:
        _log.warning(problem)
    return problems


def problems_of(run: RunFolder, manifest: Manifest) -> Iterator[str]:
    """What is missing in the folder of one run, one line each. A folder with tables alone lacks nothing.

    Args:
        run: the run folder.
        manifest: of the run, or an empty one.

    Raises:
        DataError: a file is a link out of the folder.
    """
    try:
        stages = finished_stages(run)
    except DataError as error:
        yield str(error)
        stages = None
    if stages is not None and not run.has(run.manifest):
        yield (
            f"{run.root} has no manifest.json, which a run writes at its end: the run is still going, or it was "
            f"interrupted (finished stages: {', '.join(stages) or 'none'}); run the study into this folder to finish it"
        )
    names = [name for name in manifest.tables if name in TABLES]
    missing = [name for name in names if not run.has(run.table(name))]
    if missing:
        yield f"{run.root} lacks tables that its manifest.json names ({', '.join(missing)}): run the study again"
    present = [name for name in names if name not in missing]
    if changed := [name for name in present if manifest.tables[name] not in (None, content_hash(run.table(name)))]:
        yield (
            f"{run.root} has tables that are not those of its manifest.json ({', '.join(changed)}): they were changed, "
            "or a newer run into this folder has not ended; run the study again"
        )


def why_empty(run: RunFolder) -> str:
    """Why the folder of one run holds no table, and what to do.

    Raises:
        DataError: the record of the stages is broken, or a file is a link out of the folder.
    """
    if run.has(run.manifest):
        return (
            f"{run.root} has no results any more: its run has ended, but {run.table('models').parent} holds none of "
            "its tables; put that folder back, or run the study into this folder again"
        )
    stages = finished_stages(run)
    if stages is not None:
        return (
            f"{run.root} has no results yet: its run is still going, or it was interrupted (finished stages: "
            f"{', '.join(stages) or 'none'}); wait, or run the study into this folder again"
        )
    return (
        f"{run.root} holds no table of results: expected {run.table('models')} (run a study first, or give the folder "
        "that it was run into)"
    )


def finished_stages(run: RunFolder) -> list[str] | None:
    """Names of the stages that a run has finished; None where no run began.

    Raises:
        DataError: the record of the stages is broken, or a link out of the folder.
    """
    if not run.has(run.stages):
        return None
    try:
        return list(_STAGES.validate_json(run.stages.read_bytes()))
    except (OSError, ValidationError, RecursionError):
        raise DataError(
            f"{run.stages} is broken: expected the record of the finished stages; the tables can be read, but remove "
            "this file before you run the study into this folder again, which then does every stage again"
        ) from None
