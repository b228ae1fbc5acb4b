"""Utility, general ability, harmfulness and over-refusal of a model, all through one lm-eval language model."""

from safespan.evaluation.engines import EngineConfig, model_of, models_with
from safespan.evaluation.harmfulness import HarmfulnessConfig, OverRefusalConfig
from safespan.evaluation.model import ModelUnderTest, WeightSwitch, load_model
from safespan.evaluation.outcomes import PAPER, EvaluationConfig, Evaluator
from safespan.evaluation.rejudge import JudgeFile, rejudge
from safespan.evaluation.utility import UtilityConfig

__all__ = [
    "PAPER",
    "EngineConfig",
    "EvaluationConfig",
    "Evaluator",
    "HarmfulnessConfig",
    "JudgeFile",
    "ModelUnderTest",
    "OverRefusalConfig",
    "UtilityConfig",
    "WeightSwitch",
    "load_model",
    "model_of",
    "models_with",
    "rejudge",
]
