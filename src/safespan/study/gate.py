"""The gate of a fine-tune: bounds on what was measured, decided, in lines, JSON and JUnit XML."""

import xml.etree.ElementTree as ET  # nosec B405 - it is written, not read
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safespan.errors import ConfigError
from safespan.files.atomic import write_json, write_text
from safespan.results.evaluated import RATES, Evaluated, check_comparable
from safespan.statistics.gate import Bound, Decision, Kind, decide

BOUNDS: dict[str, tuple[str, Kind]] = {
    "max-attack-success": ("attack success", "most"),
    "min-refusal": ("refusal", "least"),
    "max-over-refusal": ("over-refusal", "most"),
    "min-utility": ("utility", "least"),
    "min-general": ("general ability", "least"),
    "max-attack-success-rise": ("attack success", "rise"),
    "max-refusal-loss": ("refusal", "loss"),
    "max-over-refusal-rise": ("over-refusal", "rise"),
    "max-utility-loss": ("utility", "loss"),
    "max-general-loss": ("general ability", "loss"),
}
"""Name of a bound -> the rate that it is on, and how."""

_LIMITS = {"most": "at most", "least": "at least", "rise": "at most", "loss": "at most"}
_CHANGES = {"rise": "rise of ", "loss": "loss of "}
_WORDS = {"kept": "kept", "broken": "BROKEN", "undecided": "UNDECIDED"}


def bounds_of(limits: Mapping[str, float | None], has_reference: bool) -> list[Bound]:
    """The bounds that are given.

    Args:
        limits: name -> limit, None where it is not given.
        has_reference: whether there is a model to compare with.

    Raises:
        ConfigError: there is none, one is outside [0, 1], or the reference is missing or of no use.
    """
    bounds = [Bound(name, *BOUNDS[name], limit) for name, limit in limits.items() if limit is not None]
    if not bounds:
        raise ConfigError(f"no bound is given: give at least one of {', '.join(f'--{name}' for name in BOUNDS)}")
    if wrong := [bound for bound in bounds if not 0 <= bound.limit <= 1]:
        raise ConfigError(f"--{wrong[0].name} {wrong[0].limit:g} is outside [0, 1]: give a share, 0.05 for 5 %")
    relative = [bound for bound in bounds if bound.relative]
    if relative and not has_reference:
        raise ConfigError(f"--{relative[0].name} is against a reference: give --reference or --reference-evaluated")
    if has_reference and not relative:
        against = ", ".join(f"--{name}" for name, (_, kind) in BOUNDS.items() if kind in ("rise", "loss"))
        raise ConfigError(
            f"the reference is of no use without a bound against it: give one of {against}, or leave it out"
        )
    return bounds


def check_measured(bounds: Sequence[Bound], evaluation: Mapping[str, Any], where: str, to_do: str) -> None:
    """Refuse a bound on what the evaluation does not measure.

    Args:
        bounds: all bounds.
        evaluation: the fields of the evaluation.
        where: they are from, for the message.
        to_do: what to do about a field that is missing there.

    Raises:
        ConfigError: which bound, and the field that it needs.
    """
    for bound in bounds:
        field = RATES[bound.measure].field
        if not evaluation.get(field):
            raise ConfigError(f"--{bound.name} needs evaluation field {field}, which {where} leaves out: {to_do}")


def decide_all(
    bounds: Sequence[Bound], model: Evaluated, reference: Evaluated | None, confident: bool
) -> list[Decision]:
    """Decide every bound.

    Args:
        bounds: the bounds, with a reference if one of them is against it.
        model: the fine-tune.
        reference: the model that it is compared with.
        confident: keep only what the whole interval keeps.

    Raises:
        ConfigError: a bound is on what was not measured.
        DataError: model and reference were not asked the same.
    """
    check_measured(bounds, model.evaluation, str(model.folder), "evaluate the model again with it")
    if reference:
        check_comparable(model, reference, [bound.measure for bound in bounds if bound.relative])
    return [
        decide(
            bound,
            model.happened(bound.measure),
            reference.happened(bound.measure) if reference else None,
            confident,
        )
        for bound in bounds
    ]


def line_of(decision: Decision, confident: bool) -> str:
    """What became of a bound, with its interval and what it was decided by."""
    bound = decision.bound
    asked = f"{_LIMITS[bound.kind]} {_percent(bound.limit)} %"
    found = f"{_CHANGES.get(bound.kind, '')}{bound.measure}"
    if decision.outcome == "undecided":
        why = f"{decision.failed} judgements failed" if decision.failed else "nothing was asked"
        return f"{_WORDS['undecided']}: {found}, {asked}: {why}; evaluate again"
    by = "interval" if confident else "estimate"
    doubt = "" if decision.sure else "; the bound is inside the interval"
    interval = f"95 % interval {_percent(decision.low)} to {_percent(decision.high)}, n = {decision.n}"
    left_out = f", {decision.failed} failed judgements left out" if decision.failed else ""
    return (
        f"{_WORDS[decision.outcome]}: {found} {_percent(decision.value)} % ({interval}{left_out}), {asked}, "
        f"by the {by}{doubt}"
    )


def write_gate(
    out: Path, decisions: Sequence[Decision], model: Evaluated, reference: Evaluated | None, confident: bool
) -> dict[str, Any]:
    """Write gate.json and gate.xml, which has a test case for every bound; returns what the JSON file holds."""
    record = {
        "passed": all(decision.outcome == "kept" for decision in decisions),
        "model": model.model,
        "reference": reference.model if reference else None,
        "decided_by": "interval" if confident else "estimate",
        "bounds": [asdict(decision) for decision in decisions],
    }
    write_json(out / "gate.json", _without_nan(record))
    write_text(out / "gate.xml", _junit(decisions, model.model, confident))
    return record


def _junit(decisions: Sequence[Decision], model: str, confident: bool) -> str:
    counts = {
        "tests": len(decisions),
        "failures": sum(decision.outcome == "broken" for decision in decisions),
        "errors": sum(decision.outcome == "undecided" for decision in decisions),
    }
    numbers = {name: str(number) for name, number in counts.items()}
    suites = ET.Element("testsuites", numbers)
    suite = ET.SubElement(suites, "testsuite", {"name": f"safespan gate {model}", **numbers})
    for decision in decisions:
        name = f"{decision.bound.name} {decision.bound.limit:g}"
        case = ET.SubElement(suite, "testcase", {"classname": "safespan.gate", "name": name})
        line = line_of(decision, confident)
        if decision.outcome != "kept":
            ET.SubElement(case, "failure" if decision.outcome == "broken" else "error", {"message": line})
        ET.SubElement(case, "system-out").text = line
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if value != value else value
