"""Whether the models that a study is given stand in their roles, and what else is to be known of them."""

import json

from safespan.checkpoints.roles import check_roles
from safespan.files.atomic import write_json
from safespan.report.verdict import role_lines
from safespan.settings import StudyConfig
from safespan.settings.names import FINETUNES
from safespan.study.context import Study
from safespan.study.needs import needed_updates
from safespan.study.prompts import notes_on_prompts


def compared_roles(config: StudyConfig) -> list[str]:
    """The roles whose models are compared: those that are given, and what they are compared with.

    A model that the study trains stands in its role.
    """
    given = [role for role, source in config.models.items() if source.model is not None]
    ends = [role for role in (*FINETUNES, "safe") if role in given]
    if not ends and not {"base", "aligned"} <= set(given):
        return []
    return [role for role in ("base", "aligned") if role in config.models] + ends


def are_given_first(config: StudyConfig) -> bool:
    """Whether the models that others are compared with are there before any training."""
    starts = [source for role, source in config.models.items() if role in ("base", "aligned")]
    return all(source.model is not None for source in starts)


def compare_roles(study: Study) -> None:
    """Write `roles.json`: warnings about models that seem to stand in the wrong role.

    Raises:
        ConfigError: a model is aligned itself, and the study needs their difference.
    """
    models = {role: study.checkpoint(role) for role in compared_roles(study.config)}
    base, aligned = models.pop("base", None), models.pop("aligned")
    remarks = check_roles(base, aligned, models, needed_updates(study.config), study.execution.map)
    write_json(study.run.roles, {"remarks": remarks})


def notes_of(study: Study) -> list[str]:
    """What users should know of the models: how their folders were read, and what speaks against their roles.

    That is what their norms say, and what they answered. What is to be known of the prompts stands among them.
    """
    known = json.loads(study.run.roles.read_text(encoding="utf-8")) if compared_roles(study.config) else {"remarks": []}
    read = [remark for checkpoint in study.checkpoints.values() for remark in checkpoint.remarks]
    outcomes = role_lines(study.run.read_table("models"))
    prompts = notes_on_prompts(study.resolved)
    return list(dict.fromkeys([*known["remarks"], *read, *study.departures, *prompts, *outcomes]))
