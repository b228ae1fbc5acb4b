"""Seconds for each kind of work, as `safespan calibrate` measured them on this machine; kept in the cache folder."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, ValidationError

from safespan.errors import DataError
from safespan.files.atomic import write_json
from safespan.files.content import cache_folder
from safespan.settings.base import first_problem
from safespan.study.costs.work import Shape, Work, quantities

START = "start"
"""The rate of a process that starts: what its imports take."""

_FOLDER = "calibration"


class Calibration(BaseModel):
    """What was measured on one machine.

    Attributes:
        processor: its name.
        device: of the models: `cpu`, or the name of the GPU.
        threads: of the linear algebra.
        made: date and time.
        safespan: version that measured.
        parameters: of the models that it was measured on, the smallest and the largest.
        seconds: kind of work -> seconds of one unit (`work.quantities`).
    """

    model_config = ConfigDict(extra="forbid")

    processor: str
    device: str
    threads: PositiveInt
    made: str
    safespan: str
    parameters: tuple[PositiveInt, PositiveInt]
    seconds: dict[str, NonNegativeFloat]

    def lacks(self, work: Work, shape: Shape) -> list[str]:
        """Kinds of work without a rate, as an earlier version did not measure them: their time is left out."""
        return [rate for rate, amount in quantities(work, shape).items() if amount and rate not in self.seconds]

    def time_of(self, work: Work, shape: Shape) -> float:
        """Seconds that work takes on one process; without those of the kinds that `lacks` names."""
        return sum(self.seconds.get(rate, 0.0) * amount for rate, amount in quantities(work, shape).items())


@dataclass(frozen=True)
class Machine:
    """What rates depend on."""

    processor: str
    device: str


def this_machine() -> Machine:
    """The processor, and the GPU if models run on one."""
    import torch

    from safespan.study.machine import hardware

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return Machine(f"{hardware()['cpu'] or platform.machine()}, {os.cpu_count()} cores", gpu)


def calibration_file(threads: int, machine: Machine | None = None) -> Path:
    """Where the rates of a machine are kept."""
    machine = machine or this_machine()
    words = f"{machine.processor} {machine.device} {threads} threads"
    name = "-".join("".join(one if one.isalnum() else " " for one in words.lower()).split())
    return cache_folder() / _FOLDER / f"{name}.json"


def known_rates(threads: int) -> Calibration | None:
    """The rates of this machine: those of so many threads, else of the nearest number; None: it was not calibrated.

    Raises:
        DataError: the file cannot be read.
    """
    exact = calibration_file(threads)
    if exact.exists():
        return read_calibration(exact)
    stem = exact.stem.removesuffix(f"-{threads}-threads")
    others = [read_calibration(file) for file in sorted(exact.parent.glob(f"{stem}-*-threads.json"))]
    return min(others, key=lambda one: abs(one.threads - threads), default=None)


def read_calibration(path: Path) -> Calibration:
    """Read a file of rates.

    Raises:
        DataError: it is broken.
    """
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = ": ".join(filter(None, first_problem(error)))
    except OSError as error:
        reason = str(error)
    raise DataError(f"{path} is no calibration ({reason}): run safespan calibrate again")


def write_calibration(calibration: Calibration) -> Path:
    """Write the rates of this machine, and say where."""
    path = calibration_file(calibration.threads, Machine(calibration.processor, calibration.device))
    write_json(path, json.loads(calibration.model_dump_json()))
    return path


def fitted(samples: "list[tuple[Mapping[str, float], float]]") -> dict[str, float]:
    """Seconds of one unit of each kind of work, none below zero, that explain samples best.

    Args:
        samples: amounts by kind of work, and the seconds that they took; relative errors count alike.
    """
    import numpy as np
    from scipy.optimize import nnls

    kinds = list(dict.fromkeys(kind for amounts, _ in samples for kind, amount in amounts.items() if amount))
    table = np.array([[amounts.get(kind, 0.0) / seconds for kind in kinds] for amounts, seconds in samples])
    scale = table.max(axis=0)
    found, _ = nnls(table / scale, np.ones(len(samples)))
    return dict(zip(kinds, (found / scale).tolist(), strict=True))
