"""Utility, general ability and harmfulness of a model, all through one lm-eval language model."""

from safespan.evaluation.harmfulness import HarmfulnessConfig
from safespan.evaluation.model import ModelUnderTest, WeightSwitch, load_model
from safespan.evaluation.outcomes import EvaluationConfig, Evaluator
from safespan.evaluation.utility import UtilityConfig

__all__ = [
    "EvaluationConfig",
    "Evaluator",
    "HarmfulnessConfig",
    "ModelUnderTest",
    "UtilityConfig",
    "WeightSwitch",
    "load_model",
]
