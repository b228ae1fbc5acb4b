"""Measures the rates of this machine: small real pieces of each kind of work, on models of two sizes.

The smaller has the size of the embedded family's, so that what a step, a pass or a tensor takes by itself shows; the
larger one shows what grows with the number of parameters.
"""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from safespan.checkpoints import Checkpoint
from safespan.linalg.device import device
from safespan.linalg.device import threads as of_threads
from safespan.progress import progress_task
from safespan.projection import Family
from safespan.settings import StudyConfig
from safespan.settings.study import bundled_study, load_study
from safespan.study.costs.pieces_of_analysis import analysis_pieces
from safespan.study.costs.pieces_of_models import model_pieces
from safespan.study.costs.rates import START, Calibration, fitted, this_machine, write_calibration
from safespan.study.costs.samples import Group, starting
from safespan.study.costs.work import quantities

_SMALL = (64, 192, 3)
_LARGE = (256, 768, 4)
"""Width, inner width and layers; the smaller is the embedded family's."""


def calibrate(threads: int = 1) -> tuple[Calibration, Path]:
    """Measure this machine, and keep the rates.

    Args:
        threads: of the linear algebra, as a process of the runs has them.

    Returns:
        The rates, and the file that has them.
    """
    with TemporaryDirectory(prefix="safespan-calibration-") as name, of_threads(threads):
        folder = Path(name)
        study = _study(folder)
        groups = [_group(folder / str(width), width, inner, layers) for width, inner, layers in (_SMALL, _LARGE)]
        pieces = [*model_pieces(study, groups, folder), *analysis_pieces(study, groups, folder)]
        samples, alone = [], threads == 1 and device().type == "cpu"
        with progress_task("pieces") as tick:
            for number, piece in enumerate(pieces):
                tick(number, len(pieces))
                samples.append((quantities(piece.work, piece.shape), piece.seconds(alone)))
        seconds = {**fitted(samples), START: starting()}
    machine = this_machine()
    made = Calibration(
        processor=machine.processor,
        device=machine.device,
        threads=threads,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        safespan=version("safespan"),
        parameters=(groups[0].shape.parameters, groups[1].shape.parameters),
        seconds=seconds,
    )
    return made, write_calibration(made)


def _study(folder: Path) -> StudyConfig:
    """The embedded family's study, with its data in a folder."""
    from safespan.organism.family import write_data

    write_data(folder / "data", 0)
    return load_study(bundled_study("organism")).resolved(folder)


def _group(folder: Path, width: int, inner: int, layers: int) -> Group:
    """Three freshly initialised models: base, aligned and contaminated."""
    from safespan.organism.family import plant

    models = []
    for seed in range(3):
        place = folder / str(seed)
        plant(place, seed, width, inner, layers)
        models.append(Checkpoint(place))
    from safespan.study.costs.prepared import shape_of

    family = Family(models[0], models[1], {"contaminated": models[2]})
    return Group(family, shape_of(models[1]))
