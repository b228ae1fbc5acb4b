"""The training test: the contaminated fine-tuning of the aligned model, with a claim protected (METHODS §7).

Beside each claim: random controls of the same ranks and side, penalty or number of blocks, the unprotected training,
and the training on the data without its harmful rows, which is what a perfect protection would give. 1-D tensors are
frozen in all of them.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safespan.errors import ConfigError
from safespan.files.scratch import scratch_folder
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import Protection, write_protection, write_random_protection
from safespan.results.claim_tables import TrainingPoint, TrainingRow
from safespan.results.table_files import write_table
from safespan.settings import TrainingConfig
from safespan.settings.names import Test
from safespan.study.context import Study
from safespan.study.coverage import measurable
from safespan.study.keys import key_of
from safespan.study.measured import ask_models, means, model_store
from safespan.study.points import PointStore, Record, answer_jobs
from safespan.subspaces import find_hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Answered, Course, Prompting

TEST: Test = "training"

CLAIM, RANDOM, UNPROTECTED, CLEAN = "claim", "random", "unprotected", "clean"
"""The kinds of trainings; clean: on the data without its harmful rows."""


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        run: its kind.
        hypothesis: the claim that is protected.
        group: of claims and their random controls.
        draw: number of the random control.
        seed: of the data's order and of its harmful rows.
        bases: the file of what is protected.
    """

    run: str
    hypothesis: str | None
    group: int | None
    draw: int | None
    seed: int
    bases: Path | None

    def at(self, step: int) -> TrainingPoint:
        """One moment of it."""
        return TrainingPoint(self.run, self.hypothesis, self.group, self.draw, self.seed, step)

    @property
    def name(self) -> str:
        """Name of its record."""
        return self.at(1).training


class TrainingWorker:
    """Trains, and asks the model as it goes on.

    Args:
        ask: `Measures.ask`.
        start: name of the aligned model.
        config: of the contaminated training.
        points: along each training that are asked, beside its end.
        prompting: how the model is prompted.
    """

    def __init__(
        self, ask: Callable[..., object], start: str, config: TrainingConfig, points: int, prompting: "Prompting"
    ) -> None:
        self._ask, self._start, self._config = ask, start, config
        self._points, self._prompting = points, prompting

    def __call__(self, training: Training) -> "Answered":
        """Do one training; its responses are pairs of a step and answers."""
        from safespan.evaluation import Answered
        from safespan.evaluation.model import in_memory
        from safespan.training.sft import fine_tune
        from safespan.training.watch import Watch

        began, answers = time.perf_counter(), []

        def look(model: object, tokenizer: object, step: int, steps: int) -> None:
            assert self._prompting.reference is not None  # training starts from it
            chat_format = self._prompting.format_of(self._prompting.reference, tokenizer)  # type: ignore[arg-type]
            answers.append((step, self._ask(in_memory(model, chat_format))))  # type: ignore[arg-type]

        watch = Watch(look, tuple(point / (self._points + 1) for point in range(1, self._points + 2)))
        without = {"contaminate_with": None} if training.run == CLEAN else {}
        config = self._config.model_copy(update=without)
        try:
            fine_tune(self._start, None, config, training.seed, protection=Protection(training.bases), watch=watch)
        except ConfigError as error:
            raise ConfigError(f"training test, {training.name}: {error}") from error
        return Answered(answers, "", float("nan"), {"training": time.perf_counter() - began})

    def close(self) -> None:
        """Nothing to close."""


def run_training_test(study: Study, key: str) -> None:
    """Table `training`."""
    from safespan.evaluation import AlongTraining, Measures

    settings, evaluator = study.resolved.verdict, study.evaluator
    assert settings is not None
    measures, store = Measures(settings, evaluator), training_store(study, key)
    aligned = ask_models(study, model_store(study, TEST, key), measures, ("aligned",))["aligned"]
    with scratch_folder(study.run.root, "protected") as folder:
        trainings = _trainings(study, folder)

        def worker(scratch: Path, known: Mapping[str, str]) -> partial[TrainingWorker]:
            start, points = study.model_name("aligned"), settings.training.points
            return partial(TrainingWorker, measures.ask, start, training_config(study), points, study.prompting)

        asked = AlongTraining(measures)
        records: dict[str, Record[Any]] = answer_jobs(
            store, asked, trainings, worker, study.execution, lambda job: job.name, "trainings"
        )
    rows = []
    for training in trainings:
        course = records[training.name].scored
        for step, measured in zip([0, *course.steps], [aligned, *course.measured], strict=True):
            rows.append(TrainingRow(**vars(training.at(step)), **means(measured)))
    write_table(study.run.table("training"), TrainingRow, rows)


def training_store(study: Study, key: str) -> "PointStore[Course]":
    """Where the records of trainings are."""
    from safespan.evaluation import Course

    return PointStore(study.run, TEST, key, Course)


def training_config(study: Study) -> TrainingConfig:
    """The contaminated training, without what belongs to the model that it writes."""
    config = study.resolved.models["contaminated"].train
    assert config is not None
    return config.model_copy(update={"protect": None, "save_steps": None, "report_to": ()})


def _trainings(study: Study, folder: Path) -> list[Training]:
    """All trainings of the test; their bases are written into the folder."""
    verdict, seed = study.resolved.verdict, study.config.seed
    assert verdict is not None

    def of(run: str, hypothesis: str | None, group: int | None, draw: int | None, bases: Path | None) -> Training:
        name = TrainingPoint(run, hypothesis, group, draw, 0, 1).training
        return Training(run, hypothesis, group, draw, seed_of(seed, name), bases)

    trainings = [of(UNPROTECTED, None, None, None, None), of(CLEAN, None, None, None, None)]
    groups: set[int] = set()
    for name in measurable(study, "training"):
        bases = folder / f"{name}.safetensors"
        made = _protection(study, name, bases)
        group = group_of(made)
        if group not in groups:
            groups.add(group)
            for draw in range(verdict.training.controls):
                drawn = folder / f"random-{group}-{draw}.safetensors"
                write_random_protection(bases, seed_of(seed, f"subspace {group} {draw}"), drawn)
                trainings.append(of(RANDOM, None, group, draw, drawn))
        trainings.append(of(CLAIM, name, group, None, bases))
    return trainings


def _protection(study: Study, name: str, out: Path) -> ProtectedBases:
    """What one claim protects."""
    verdict, seed = study.resolved.verdict, study.config.seed
    assert verdict is not None
    own, is_penalty = verdict.training, find_hypothesis(name).kind == "penalty"
    fraction, penalty = (None, own.penalty) if is_penalty else (own.fraction, None)
    side = verdict.training_side
    return write_protection(study.family, name, fraction, side, seed, out, study.decompose, penalty)


def seed_of(seed: int, name: str) -> int:
    """A seed of its own for every training, the same whatever else a study tests."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 1


def group_of(bases: ProtectedBases) -> int:
    """The number of the group of a claim, the same whatever else a study tests: records of controls go by it."""
    return int(key_of(shape_of(bases))[:6], 16)


def shape_of(bases: ProtectedBases) -> object:
    """What a random control has in common with a claim.

    Of a subspace the ranks, and which matrices have the very same basis; of a penalty its eigenvalues too; of blocks
    which ones are frozen, as controls are others.
    """
    from safespan.projection.ablation import spaces_of

    numbers: dict[object, int] = {}
    pattern = []
    for tensor in bases.about.ranks:
        for basis in bases.claims(tensor):
            spaces = (None, None) if basis is None else spaces_of(basis)
            pattern.append(tuple(space and numbers.setdefault(space, len(numbers)) for space in spaces))
    of_penalty = [] if bases.about.penalty is None else [bases.values(tensor).tolist() for tensor in bases.tensors]
    return bases.about.ranks, pattern, bases.about.penalty, of_penalty, bases.about.blocks, bases.about.frozen
