"""Configuration files and their validation. No model library is imported, so that errors are reported quickly."""

from safespan.settings.analysis import ProjectionGrid
from safespan.settings.data import PromptSource, RowSource, TrainingData
from safespan.settings.evaluation import PAPER, EngineConfig, EvaluationConfig, UtilityConfig
from safespan.settings.execution import ExecutionConfig
from safespan.settings.reading import check_settings, load_settings
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.settings.training import TrainingConfig
from safespan.settings.verdict import VerdictConfig
