"""What was asked of models and points, and answered: one store, and one loop that fills it."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from safespan.data import Prompt, rows_hash
from safespan.execution.local import Execution, Job, Worker
from safespan.files.atomic import read_jsonl, write_json, write_jsonl
from safespan.files.content import content_hash
from safespan.files.scratch import scratch_folder
from safespan.progress import progress_task
from safespan.results import RunFolder

Scored = TypeVar("Scored")


@dataclass(frozen=True)
class Record(Generic[Scored]):
    """What is kept of one job.

    Attributes:
        key: of the work.
        weights: SHA-256 of a point's weights; empty for a model as it is.
        energy: ‖·‖²_F of what a point added to the aligned model; NaN for a model as it is.
        seconds: spent on the weights and on the answers.
        scored: what the responses are worth.
        responses: SHA-256 of the file of its responses; None where none are kept.
        same_weights_as: the point whose answers these are, as its weights are the same.
    """

    key: str
    weights: str
    energy: float
    seconds: dict[str, float]
    scored: Scored
    responses: str | None = None
    same_weights_as: str | None = None


class PointStore(Generic[Scored]):
    """Records of models or points in `results/points/`, and their responses in `generations/`.

    Args:
        run: the run folder.
        place: folder of these records in the two: empty, `projection`, or that of a test of claims.
        key: of the work; records under another key do not count.
        kind: type of what is scored.
    """

    def __init__(self, run: RunFolder, place: str, key: str, kind: type[Scored]) -> None:
        self.run, self.key, self._place = run, key, place
        self._folder = _records(run, place)
        self._records = TypeAdapter(Record[kind])  # type: ignore[valid-type]

    def names(self) -> list[str]:
        """Names of all records, under whichever key."""
        return sorted(file.stem for file in self._folder.glob("*.json"))

    def read(self, name: str) -> Record[Scored] | None:
        """The record of a job under this key, if it and the responses that belong to it stand as they were written.

        Another study may have overwritten the responses without coming to its end.
        """
        try:
            text = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
            record: Record[Scored] = self._records.validate_python(text)
        except (FileNotFoundError, ValueError):
            return None
        stands = record.key == self.key and record.responses == content_hash(self.responses(name))
        return record if stands else None

    def write(
        self, name: str, record: Record[Scored], responses: Sequence[Mapping[str, Any]] | None = None
    ) -> Record[Scored]:
        """Write a record, and before it its responses, if any."""
        if responses is not None:
            write_jsonl(self.responses(name), responses)
        record = replace(record, responses=content_hash(self.responses(name)))
        write_json(self._folder / f"{name}.json", asdict(record))
        return record

    def copy(self, name: str, of: str) -> Record[Scored]:
        """Keep for one point what another answered whose weights are the same."""
        record = self.read(of)
        assert record is not None
        responses = None if record.responses is None else read_jsonl(self.responses(of))
        return self.write(name, replace(record, seconds={}, same_weights_as=of), responses)

    def responses(self, name: str) -> Path:
        """The file with the responses of one job."""
        return self.run.generations(f"{self._place}/{name}" if self._place else name)


def recorded_key(run: RunFolder, place: str, name: str) -> str | None:
    """The key that the record of a job stands under; None where there is none."""
    try:
        return str(json.loads((_records(run, place) / f"{name}.json").read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _records(run: RunFolder, place: str) -> Path:
    return run.root / "results" / "points" / place


class Questions(Protocol):
    """What is asked of every job: an `Evaluator`, or `Measures`."""

    def prepare(self) -> None:
        """Load tasks, prompts and judge now."""

    def check_cost(self) -> None:
        """Refuse another job if its judgement would pass the judge's cap."""

    @property
    def prompts(self) -> Mapping[str, Sequence[Prompt]]:
        """Prompts by kind."""

    def score(self, responses: Any) -> tuple[Any, Sequence[Mapping[str, Any]] | None]:
        """What the responses of one job are worth, and the rows that are kept of them."""


def answer_jobs(
    store: PointStore[Any],
    questions: Questions,
    jobs: Sequence[Job],
    worker: Callable[[Path, Mapping[str, str]], Callable[[], Worker]],
    execution: Execution,
    group: Callable[[Job], Hashable],
    label: str,
) -> dict[str, Record[Any]]:
    """Ask every job, but for those that have a record under the store's key.

    Args:
        store: of the records.
        questions: what is asked; loaded before the first worker begins.
        jobs: in the order in which they are best asked.
        worker: gives, for a scratch folder and the names of points by their weights, what makes a worker.
        execution: where workers run.
        group: jobs of one group share work.
        label: what the jobs are called in the progress display.

    Returns:
        Name of the job -> its record.
    """
    from safespan.evaluation import Repeat

    records = {job.name: record for job in jobs if (record := store.read(job.name))}
    known = {record.weights: name for name, record in records.items() if record.weights}
    waiting = [job for job in jobs if job.name not in records]
    if waiting:
        questions.prepare()
        questions.check_cost()
        record_prompts(store.run, questions.prompts)
    with scratch_folder(store.run.root, "scratch") as scratch, progress_task(label) as tick:
        tick(len(records), len(jobs))
        for job, answered in execution.run_jobs(worker(scratch, known), waiting, group):
            if isinstance(answered, Repeat):
                records[job.name] = store.copy(job.name, answered.of)
            else:
                scored, responses = questions.score(answered.responses)
                record = Record(store.key, answered.weights, answered.energy, answered.seconds, scored)
                records[job.name] = store.write(job.name, record, responses)
            tick(len(records), len(jobs))
            if len(records) < len(jobs):
                questions.check_cost()
    return records


def record_prompts(run: RunFolder, prompts: Mapping[str, Sequence[Prompt]]) -> None:
    """Note how many prompts of each kind were asked, and their hash, for the manifest."""
    known = json.loads(run.prompts.read_text(encoding="utf-8")) if run.prompts.exists() else {}
    asked = {
        kind: {"rows": len(given), "sha256": rows_hash([{"prompt": one.prompt, "target": one.target} for one in given])}
        for kind, given in prompts.items()
    }
    write_json(run.prompts, {**known, **asked})
