"""Utility, general ability, harmfulness and over-refusal of a model, all through one lm-eval language model."""

from safespan.evaluation.course import AlongTraining, Course
from safespan.evaluation.engines import SwitchedModel, model_of
from safespan.evaluation.measures import Measured, Measures, joined
from safespan.evaluation.model import ModelUnderTest, WeightSwitch, load_model
from safespan.evaluation.outcomes import Evaluator, Responses, Scores
from safespan.evaluation.prompting import Prompting, context_of, tokenizer_of
from safespan.evaluation.rejudge import judged_outcomes, rejudge
from safespan.evaluation.utility import build_tasks, check_questions
from safespan.evaluation.workers import Answered, ModelJob, ModelWorker, PointWorker, Repeat
