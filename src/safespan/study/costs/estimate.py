"""The costs of a study before it runs."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safespan.errors import SafespanError
from safespan.execution import execution
from safespan.progress import progress_task
from safespan.settings import StudyConfig
from safespan.settings.judges import LLMConfig
from safespan.study.costs.asking import asking_of
from safespan.study.costs.clock import Clock
from safespan.study.costs.disk import Room, room_of
from safespan.study.costs.prepared import Prepared, prepared
from safespan.study.costs.rates import START, Calibration, calibration_file, known_rates
from safespan.study.costs.stages import StageCost, stage_costs
from safespan.study.costs.work import Shape, Work, sum_of
from safespan.study.inputs import check_data

_log = logging.getLogger(__name__)

_FAR = 4
"""Times the size that rates were measured on beyond which a time is an order of magnitude."""


@dataclass(frozen=True)
class Span:
    """Seconds: the least, what is likely, and the most."""

    least: float
    likely: float
    most: float


@dataclass(frozen=True)
class Estimate:
    """The costs of a study under one seed.

    Attributes:
        stages: their work.
        shape: of the models; None: nothing is known of it.
        room: disk and memory.
        workers: processes; 1: the command's own.
        rates: of this machine; None: it was not calibrated.
        seeds: of the study.
        judge: that is paid for, if any.
        engine: that models answer in.
        prompts: of each kind that a test asks at most; None: that is not known, or the study has no test.
    """

    stages: Mapping[str, StageCost]
    shape: Shape | None
    room: Room
    workers: int
    rates: Calibration | None
    seeds: int
    judge: LLMConfig | None
    engine: str
    prompts: int | None

    @property
    def least(self) -> Work:
        """All stages, if claims are decided early."""
        return sum_of([stage.least for stage in self.stages.values()])

    @property
    def most(self) -> Work:
        """All stages, if no claim is decided early."""
        return sum_of([stage.most for stage in self.stages.values()])

    @property
    def unknown(self) -> list[str]:
        """What is not counted."""
        missing = self.rates.lacks(self.most, self.shape) if self.rates and self.shape else []
        untimed = [f"the time of {', '.join(missing)} (run safespan calibrate again)"] if missing else []
        other = [f"what the engine {self.engine} changes: time and memory are those of the engine memory"]
        parts = dict.fromkeys(what for stage in self.stages.values() for what in stage.unknown)
        return [*parts, *untimed, *(other if self.engine != "memory" else [])]

    @property
    def is_far(self) -> bool:
        """Whether the models are much larger than those that the rates were measured on."""
        return bool(self.rates and self.shape and self.shape.parameters > _FAR * self.rates.parameters[1])

    def seconds(self, name: str) -> Span | None:
        """The time of one stage; None: it is not known. Of a stage that costs next to nothing 0."""
        if self.rates is None or self.shape is None:
            return None
        stage = self.stages.get(name)
        if stage is None:
            return Span(0.0, 0.0, 0.0)
        beside = min(self.workers, stage.beside)
        least, likely, most = (
            self.rates.time_of(work, self.shape) / beside for work in (stage.soonest, stage.likely, stage.most)
        )
        return Span(least, likely, most)

    @property
    def time(self) -> Span | None:
        """The time of the whole run of one seed."""
        if self.rates is None:
            return None
        start = self.rates.seconds.get(START, 0.0) * (1 if self.workers == 1 else 2)
        known = [span for name in self.stages if (span := self.seconds(name))]
        if not known:
            return None
        return Span(*(start + sum(getattr(span, field) for span in known) for field in ("least", "likely", "most")))

    def clock(self, names: Sequence[str]) -> Clock:
        """Says when the run ends, of its stages in their order."""
        spans = {name: self.seconds(name) for name in names}
        report = self.seconds("report")
        return Clock({name: span.likely for name, span in spans.items() if span}, names, report.likely if report else 0)

    @property
    def money(self) -> float | None:
        """What the judge costs at most; None: its prices are not known."""
        return None if self.judge is None else price_of(self.judge, self.most)

    def record(self) -> dict[str, Any]:
        """For the manifest and for JSON."""
        time = self.time
        return {
            "workers": self.workers,
            "seeds": self.seeds,
            "seconds": vars(time) if time else None,
            "stages": {
                name: {
                    "seconds": vars(span) if (span := self.seconds(name)) else None,
                    "least": _filled(stage.least),
                    "most": _filled(stage.most),
                    "not_counted": stage.unknown,
                }
                for name, stage in self.stages.items()
            },
            "most": _filled(self.most),
            "room": vars(self.room),
            "judge_cost": self.money,
            "not_counted": self.unknown,
            "calibrated": self.rates.made if self.rates else None,
        }


def _filled(work: Work) -> dict[str, int]:
    return {name: value for name, value in vars(work).items() if value}


def price_of(judge: LLMConfig, work: Work) -> float | None:
    """What the judge's tokens cost; None where a price is not set."""
    if judge.input_price is None or judge.output_price is None:
        return None
    return (work.judge_input_tokens * judge.input_price + work.judge_output_tokens * judge.output_price) / 1e6


def estimate(config: StudyConfig, out: Path) -> Estimate:
    """Count the work of a study and estimate its costs. Neither weights nor the network are used, nothing is kept.

    Raises:
        SafespanError: bad input, in one line; a calibration that is broken.
    """
    with prepared(config, out) as study:
        named = check_data(study.config, _run_of(study, out))
        counts = {one.field: rows for one, rows in named}
        asking = asking_of(study, counts)
        stages = stage_costs(study, asking, counts)
        prompts = asking.available if config.verdict and not asking.unknown else None
        return _estimate(config, study, stages, prompts)


def expected_of(config: StudyConfig, out: Path) -> Estimate | None:
    """The costs of a study that begins to run; None where this machine was not calibrated, so that no time is known.

    Costs that cannot be estimated are no reason not to run: it is logged why.
    """
    folder = calibration_file(1).parent
    if not folder.is_dir() or not any(folder.glob("*.json")):
        return None
    try:
        with progress_task("costs"):
            return estimate(config, out)
    except SafespanError as error:
        _log.warning(f"the costs of this run are not known: {error}")
        return None


def _run_of(study: Prepared, out: Path) -> Any:
    from safespan.results import RunFolder

    return RunFolder(study.run if study.config.data else out)


def _estimate(config: StudyConfig, study: Prepared, stages: dict[str, StageCost], prompts: int | None) -> Estimate:
    import torch

    shape, gpu = study.shape, torch.cuda.is_available()
    workers = _workers(config, shape)
    alone = workers == 1 and config.execution.engine == "local"
    threads = (config.threads or torch.get_num_threads()) if alone else config.execution.cpus_per_worker
    harm = config.evaluation.harmfulness
    judge = harm.judge if harm and isinstance(harm.judge, LLMConfig) else None
    asked = stages["outcomes"].most
    longest = math.ceil((asked.prompt_tokens + asked.new_tokens) / max(1, asked.responses))
    written = sum(stage.most.written for stage in stages.values())
    room = room_of(config, shape, written, workers, longest, gpu)
    rates, engine = known_rates(threads), config.evaluation.engine.name
    return Estimate(stages, shape, room, workers, rates, config.replicates, judge, engine, prompts)


def _workers(config: StudyConfig, shape: Shape | None) -> int:
    """Processes that the run would start here; on a cluster, which is not asked, those that the settings say."""
    if config.execution.engine != "local":
        return config.execution.workers or 1
    size = 4 * shape.parameters if shape else 0
    return execution(config.execution, lambda: size).workers
