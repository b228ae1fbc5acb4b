from .activations import Resampling, capture_classes, overlap_by_layer, separation_by_layer
from .checkpoints import Checkpoint
from .errors import SafespanError
from .evaluation import Evaluator, load_model
from .overlap import overlap_curve, update_overlap
from .projection import Family, sweep, write_projected
from .report import Run, load_run, write_report
from .settings import ProjectionGrid, StudyConfig, load_study
from .study.run import run_study
from .subspaces import SpectrumCache, decompose
from .training.sft import fine_tune

__all__ = [
    "Checkpoint",
    "Evaluator",
    "Family",
    "ProjectionGrid",
    "Resampling",
    "Run",
    "SafespanError",
    "SpectrumCache",
    "StudyConfig",
    "capture_classes",
    "decompose",
    "fine_tune",
    "load_model",
    "load_run",
    "load_study",
    "overlap_by_layer",
    "overlap_curve",
    "run_study",
    "separation_by_layer",
    "sweep",
    "update_overlap",
    "write_projected",
    "write_report",
]
