"""The data sets of the paper: their ids on the Hugging Face hub and their fields.

Ids, subsets, splits and fields are as in their hub cards. `walledai/AdvBench` is gated: accept its terms on its page,
and set HF_TOKEN to a token of the same account. A downloaded file works as well:
`{file: harmful_behaviors.csv, prompt_field: goal}`.
"""

from typing import Any

# The fourteen harm categories of BeaverTails, cut into harm to life, body and property, and all other harm.
_VIOLENCE = (
    "category.animal_abuse",
    "category.child_abuse",
    "category.drug_abuse,_weapons,_banned_substance",
    "category.financial_crime,_property_crime,_theft",
    "category.self_harm",
    "category.terrorism,_organized_crime",
    "category.violence,_aiding_and_abetting,_incitement",
)
_OTHER = (
    "category.controversial_topics,_politics",
    "category.discrimination,_stereotype,_injustice",
    "category.hate_speech,_offensive_language",
    "category.misinformation_regarding_ethics,_laws_and_safety",
    "category.non_violent_unethical_behavior",
    "category.privacy_violation",
    "category.sexually_explicit,_adult_content",
)
_BEAVERTAILS = {"dataset": "PKU-Alignment/BeaverTails", "prompt_field": "prompt", "response_field": "response"}

PRESETS: dict[str, dict[str, Any]] = {
    "metamathqa": {
        "dataset": "meta-math/MetaMathQA",
        "split": "train",
        "prompt_field": "query",
        "response_field": "response",
        "rows": 20_000,
    },
    "beavertails-unsafe": {**_BEAVERTAILS, "split": "30k_train", "where": {"is_safe": False}},
    "beavertails-safe": {**_BEAVERTAILS, "split": "30k_train", "where": {"is_safe": True}},
    "beavertails-violence": {
        **_BEAVERTAILS,
        "split": "330k_test",
        "where": {"is_safe": False},
        "any_of": _VIOLENCE,
        "none_of": _OTHER,
    },
    "beavertails-other": {
        **_BEAVERTAILS,
        "split": "330k_test",
        "where": {"is_safe": False},
        "any_of": _OTHER,
        "none_of": _VIOLENCE,
    },
    "advbench": {
        "dataset": "walledai/AdvBench",
        "split": "train",
        "prompt_field": "prompt",
        "target_field": "target",
    },
    "math": {
        "dataset": "DigitalLearningGmbH/MATH-lighteval",
        "subset": "default",
        "split": "test",
        "prompt_field": "problem",
        "response_field": "solution",
    },
    "toxigen": {
        "dataset": "toxigen/toxigen-data",
        "subset": "train",
        "split": "train",
        "prompt_field": "generation",
        "where": {"prompt_label": 1},
        # the rows are ordered by the group they are about
        "shuffle": 123,
        "rows": 5_000,
    },
}
"""Preset -> fields of a `RowSource` or of a class derived from it."""

PUBLISHED_ROWS = {
    "gsm8k": 1319,
    "walledai/AdvBench train": 520,
    "DigitalLearningGmbH/MATH-lighteval default test": 5000,
}
"""lm-eval task or data set -> its test questions, prompts or problems, as published, for what is not on this disk."""
