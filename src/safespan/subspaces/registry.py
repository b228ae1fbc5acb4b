"""All hypotheses by name: those of this package, and those of other packages."""

from functools import cache
from importlib import import_module

from safespan.errors import HypothesisError
from safespan.settings.names import check_choices, foreign_hypotheses, hypothesis_names
from safespan.subspaces.hypothesis import Hypothesis

_FILES = {
    "refusal-directions": "refusal_direction",
    "refusal-direction-orthogonal": "abliteration",
    "refusal-direction-norms": "abliteration",
    "refusal-direction-orthogonal-norms": "abliteration",
    "actsvd-orthogonal": "actsvd",
    "set-difference-neurons": "safety_neurons",
    "fine-grained-neurons": "safety_neurons",
    "safelora-projector": "safelora",
    "safemerge-factors": "safemerge",
    "lssf-update": "lssf",
}
"""Hypotheses that are a variant of another, in the other's module."""


@cache
def find_hypothesis(name: str) -> Hypothesis:
    """The hypothesis of that name.

    Raises:
        ConfigError: there is none.
        HypothesisError: another package's cannot be loaded.
    """
    check_choices("claim", [name], hypothesis_names())
    if name not in foreign_hypotheses():
        module = import_module(f"safespan.subspaces.hypotheses.{_FILES.get(name, name).replace('-', '_')}")
        hypothesis: Hypothesis = getattr(module, name.replace("-", "_"))
        return hypothesis
    entry = foreign_hypotheses()[name]
    try:
        loaded: object = entry.load()
    except Exception as error:  # of any type, from the import of another package
        raise HypothesisError(f"hypothesis {name!r} of {entry.value} cannot be loaded ({error!r})") from error
    if not isinstance(loaded, Hypothesis):
        raise HypothesisError(f"{entry.value} is {type(loaded).__name__}: decorate a function with @hypothesis(...)")
    if loaded.name != name:
        raise HypothesisError(f"{entry.value} calls itself {loaded.name!r}, and its entry point {name!r}: use one name")
    return loaded
