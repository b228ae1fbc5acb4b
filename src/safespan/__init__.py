"""safespan: does a safety subspace exist in this language model?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safespan.activations import Resampling, capture_classes, overlap_by_layer, separation_by_layer
    from safespan.checkpoints import Checkpoint
    from safespan.errors import SafespanError
    from safespan.evaluation import Evaluator, load_model
    from safespan.overlap.curve import overlap_curve
    from safespan.overlap.updates import update_overlap
    from safespan.projection import Family, sweep, write_projected
    from safespan.report import write_report
    from safespan.settings.analysis import ProjectionGrid
    from safespan.settings.study import StudyConfig, load_study
    from safespan.study.run import run_study
    from safespan.subspaces import SpectrumCache, decompose
    from safespan.training.sft import fine_tune

__all__ = [
    "Checkpoint",
    "Evaluator",
    "Family",
    "ProjectionGrid",
    "Resampling",
    "SafespanError",
    "SpectrumCache",
    "StudyConfig",
    "capture_classes",
    "decompose",
    "fine_tune",
    "load_model",
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

_HOME = {
    "Checkpoint": "checkpoints",
    "Evaluator": "evaluation",
    "Family": "projection",
    "ProjectionGrid": "projection",
    "Resampling": "activations",
    "SafespanError": "errors",
    "SpectrumCache": "subspaces",
    "StudyConfig": "config",
    "capture_classes": "activations",
    "decompose": "subspaces",
    "fine_tune": "training.sft",
    "load_model": "evaluation",
    "load_study": "config",
    "overlap_by_layer": "activations",
    "overlap_curve": "overlap",
    "run_study": "study",
    "separation_by_layer": "activations",
    "sweep": "projection",
    "update_overlap": "overlap",
    "write_projected": "projection",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'safespan' has no attribute {name!r}")
    return getattr(import_module(f"safespan.{_HOME[name]}"), name)
