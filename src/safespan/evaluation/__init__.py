"""Utility, general ability, harmfulness and over-refusal of a model, all through one lm-eval language model."""

from safespan.evaluation.engines import EngineConfig, SwitchedModel, model_of
from safespan.evaluation.harmfulness import HarmfulnessConfig, OverRefusalConfig
from safespan.evaluation.measures import MeasureConfig, Measured, Measures
from safespan.evaluation.model import ModelUnderTest, WeightSwitch, load_model
from safespan.evaluation.outcomes import PAPER, EvaluationConfig, Evaluator, Said
from safespan.evaluation.rejudge import JudgeFile, judged_outcomes, rejudge
from safespan.evaluation.utility import UtilityConfig
from safespan.evaluation.workers import Answered, ModelWorker, PointWorker, Repeat

__all__ = [
    "PAPER",
    "Answered",
    "EngineConfig",
    "EvaluationConfig",
    "Evaluator",
    "HarmfulnessConfig",
    "JudgeFile",
    "MeasureConfig",
    "Measured",
    "Measures",
    "ModelUnderTest",
    "ModelWorker",
    "OverRefusalConfig",
    "PointWorker",
    "Repeat",
    "Said",
    "SwitchedModel",
    "UtilityConfig",
    "WeightSwitch",
    "judged_outcomes",
    "load_model",
    "model_of",
    "rejudge",
]
