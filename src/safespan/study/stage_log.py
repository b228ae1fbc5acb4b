"""Stages done once: which of them stand from an earlier run, and how long each took."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from safespan.errors import ConfigError, first_line
from safespan.execution.local import Execution
from safespan.files.atomic import write_json
from safespan.files.content import content_hash
from safespan.progress import note, progress_task, step
from safespan.results import TABLES, RunFolder, header_of, schema_of
from safespan.results.manifest import StageRecord
from safespan.study.costs.clock import Clock
from safespan.study.models import Trainer
from safespan.study.stages import Stage


class _Done(BaseModel):
    """What is noted of a stage that was done."""

    key: str
    seconds: float
    outputs: dict[str, str | None] = {}


_KNOWN = TypeAdapter(dict[str, _Done])


class StageLog:
    """The stages of one run folder, kept in `stages.json`.

    Args:
        run: the run folder; what an earlier run finished there is known.
        names: all stages, in their order.
        clock: says when the run ends.
    """

    def __init__(self, run: RunFolder, names: Sequence[str], clock: Clock | None = None) -> None:
        self._run, self._names = run, list(names)
        self._clock = clock or Clock({}, names)
        self._file = run.stages
        self._known: dict[str, _Done] = {}
        if self._file.exists():
            try:
                self._known = _KNOWN.validate_json(self._file.read_bytes())
            except (ValueError, RecursionError) as error:
                reason = first_line(error)
                raise ConfigError(f"{self._file} is broken ({reason}): remove it to redo the run's stages") from None
        self._records: dict[str, StageRecord] = {}

    @property
    def records(self) -> list[StageRecord]:
        """What was done, and what stood from before, in the order of the stages."""
        return [self._records[name] for name in self._names if name in self._records]

    def do(self, stage: Stage) -> None:
        """Do a stage unless it was done before with the same key and its outputs are what was written then."""
        key = self._key_unless_done(stage)
        if key is None:
            return
        start = time.perf_counter()
        with step(self._label(stage), self._clock.told(datetime.now())):
            stage.work(key)
        self._finish(stage, key, time.perf_counter() - start)

    def do_side_by_side(self, stages: Sequence[Stage], execution: Execution) -> None:
        """The same for stages that have jobs, in worker processes; each is finished as soon as its job is done."""
        keys = {stage.name: key for stage in stages if (key := self._key_unless_done(stage)) is not None}
        stage_of = {stage.job: stage for stage in stages if stage.job and stage.name in keys}
        with progress_task(f"models{self._clock.told(datetime.now())}") as tick:
            done = execution.run_jobs(Trainer, list(stage_of), lambda job: job.name)
            for number, (job, seconds) in enumerate(done, 1):
                stage = stage_of[job]
                self._finish(stage, keys[stage.name], seconds)
                note(f"{self._label(stage)}: {seconds:.1f} s")
                tick(number, len(stage_of))

    def tables(self) -> dict[str, str | None]:
        """Table -> SHA-256 of its file, so that a study that is run again can be compared."""
        outputs = [self._known[name].outputs for name in self._names if name in self._known]
        written = {Path(file): digest for files in outputs for file, digest in files.items()}
        return {file.stem: digest for file, digest in written.items() if file.suffix == ".csv"}

    def _label(self, stage: Stage) -> str:
        return f"{self._names.index(stage.name) + 1}/{len(self._names)} {stage.name}"

    def _key_unless_done(self, stage: Stage) -> str | None:
        """The key of a stage that has to be done; of one that stands it is noted so."""
        key, label = stage.key(), self._label(stage)
        if stage.prepare:
            stage.prepare(key)
        known = self._known.get(stage.name)
        if known and known.key == key and all(map(is_current, stage.outputs)):
            changed = self._changed(known)
            if not changed:
                self._records[stage.name] = StageRecord(name=stage.name, seconds=known.seconds, reused=True)
                self._clock.finished(stage.name, None)
                note(f"{label}: done before")
                return None
            note(f"{label}: {changed[0]} is not what was written; done again")
        return key

    def _finish(self, stage: Stage, key: str, seconds: float) -> None:
        seconds = round(seconds, 2)
        self._clock.finished(stage.name, seconds)
        self._records[stage.name] = StageRecord(name=stage.name, seconds=seconds, reused=False)
        self._known[stage.name] = _Done(key=key, seconds=seconds, outputs=self._hashes(stage.outputs))
        write_json(self._file, _KNOWN.dump_python(self._known))

    def _hashes(self, outputs: Sequence[Path]) -> dict[str, str | None]:
        """File -> SHA-256, of outputs and all files in those that are folders."""
        files = [file for path in outputs for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
        return {str(file.relative_to(self._run.root)): content_hash(file) for file in sorted(files)}

    def _changed(self, known: _Done) -> list[str]:
        """Files of a finished stage that are gone or other than they were."""
        return [file for file, written in known.outputs.items() if content_hash(self._run.root / file) != written]


def is_current(output: Path) -> bool:
    """Whether an output is there and, if it is a table, has the columns that it has today."""
    if output.suffix != ".csv" or not output.exists():
        return output.exists()
    return header_of(output) == list(schema_of(TABLES[output.stem]))
