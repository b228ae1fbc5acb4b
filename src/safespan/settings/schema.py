"""The JSON Schema of a study file, by which editors complete and check it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from safespan.settings.data import PromptSource, TrainingData
from safespan.settings.evaluation import UTILITY_PRESETS, UtilityConfig
from safespan.settings.judges import RulesConfig
from safespan.settings.names import ROLES
from safespan.settings.presets import PRESETS
from safespan.settings.study import StudyConfig

PRESETS_OF: Mapping[type[BaseModel], Mapping[str, Any]] = {
    PromptSource: PRESETS,
    TrainingData: PRESETS,
    UtilityConfig: UTILITY_PRESETS,
}
"""The configurations that a text alone or a preset can stand for."""


def study_schema() -> dict[str, Any]:
    """JSON Schema of a study file as it is written: with `extends`, presets, and texts that stand for fields.

    It knows fields, types, choices and ranges. It does not know what is absent below the top, which a file that is
    extended, a preset or a recipe may give, nor how fields depend on one another. `safespan run --dry-run` checks all.
    """
    schema = StudyConfig.model_json_schema()
    parts = schema["$defs"]
    for part in parts.values():
        part.pop("required", None)
        _widen_judges(part)
    for kind, presets in PRESETS_OF.items():
        fields = parts[kind.__name__]
        known = {"enum": list(presets), "description": "fills in the fields of a known source; those beside it win"}
        fields["properties"] = {"preset": known, **fields["properties"]}
        parts[kind.__name__] = {"anyOf": [{"type": "string"}, fields]}
    whole = schema.pop("required")
    extends = {"type": "string", "description": "another study file, whose fields this one changes or adds to"}
    schema["properties"] = {"extends": extends, **schema["properties"]}
    schema["properties"]["models"]["propertyNames"] = {"enum": list(ROLES)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "safespan study",
        "anyOf": [{"required": ["extends"]}, {"required": whole}],
    }


def _widen_judges(part: dict[str, Any]) -> None:
    """A judge may be its kind alone, and fields of a kind that another file gives."""
    for field in part.get("properties", {}).values():
        if "discriminator" in field:
            del field["discriminator"]
            field["anyOf"] = [{"enum": [RulesConfig().kind]}, *field.pop("oneOf")]
