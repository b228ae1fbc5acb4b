"""Settings of a study, with a description of every field."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from safespan.errors import ConfigError, SafespanError
from safespan.settings.analysis import ACTIVATION_ROLES, ActivationsConfig, OverlapConfig, ProjectionGrid
from safespan.settings.base import Settings
from safespan.settings.evaluation import EvaluationConfig
from safespan.settings.execution import ExecutionConfig
from safespan.settings.model_names import FORMS
from safespan.settings.names import (
    FINETUNES,
    GRANULARITIES,
    METHODS,
    ROLES,
    Vocabulary,
    check_choices,
    check_shares,
    hypothesis_names,
    unknown,
)
from safespan.settings.reading import load_settings
from safespan.settings.training import TrainingConfig
from safespan.settings.verdict import VerdictConfig, chosen_tests, update_finetunes

ORGANISM = "organism"
"""The start of a training from scratch: a freshly initialised model of the embedded family."""


class ModelSource(Settings):
    """The model of one role: an existing model, or a training run."""

    model: str | None = Field(None, description=FORMS)
    size_gb: float | None = Field(None, gt=0, description="GB of its weights, for a dry run: of a hub id not on disk")
    start: str | None = Field(
        None, description=f"the role to train from, or '{ORGANISM}': a freshly initialised model of the embedded family"
    )
    train: TrainingConfig | None = Field(None, description="how the start is trained")

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSource":
        if (self.model is None) == (self.start is None) or (self.start is None) != (self.train is None):
            raise ValueError("give either model, or start together with train")
        return self


class StudyConfig(Settings):
    """A whole study. In any file name `{run}` stands for the run folder."""

    in_files: ClassVar[tuple[str, ...]] = ("extends",)

    name: str = Field(description="title of the study")
    seed: int = Field(0, ge=0, description="seed of training, data and random controls")
    replicates: int = Field(
        1,
        ge=1,
        description="how many times the whole study is run, with seed, seed + 1, …, each in seeds/N of the run folder; "
        "from 5 on there are verdicts about the way of training",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the linear algebra; unset: all cores")
    data: Literal["organism", "english"] | None = Field(
        None, description="training rows, prompts and tasks that the run makes for itself in {run}/data; unset: none"
    )
    models: dict[str, ModelSource] = Field(
        description=f"role ({', '.join(ROLES)}): its model; a start stands above its use"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="what models are asked; unset: nothing")
    projection: ProjectionGrid | None = Field(ProjectionGrid(), description="experiments 1 and 2; null: left out")
    overlap: OverlapConfig | None = Field(OverlapConfig(), description="experiment 3; null: left out")
    activations: ActivationsConfig | None = Field(None, description="experiment 4; unset: left out")
    verdict: VerdictConfig | None = Field(None, description="tests of claims; unset: left out")
    vocabulary: Vocabulary = Field(
        "shared", description="models with other numbers of tokens: compare the rows that all have, or refuse them"
    )
    execution: ExecutionConfig = Field(ExecutionConfig(), description="where decompositions and points run")

    @model_validator(mode="before")
    @classmethod
    def _activations_of_models_here(cls, values: Any) -> Any:
        """The models of experiment 4 that are not named are those that the study has."""
        if not isinstance(values, dict) or not isinstance(values.get("models"), dict):
            return values
        activations = values.get("activations")
        if not isinstance(activations, dict) or "models" in activations:
            return values
        here = [role for role in ACTIVATION_ROLES if role in values["models"]]
        return {**values, "activations": {**activations, "models": here}}

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        known: list[str] = []
        for role, source in self.models.items():
            if role not in ROLES:
                raise ValueError(f"models: {unknown('role', role, ROLES)}")
            if source.start not in (None, ORGANISM, *known):
                raise ValueError(f"models.{role}.start: {source.start!r} is not a role defined above it")
            known.append(role)
        if "aligned" not in known:
            raise ValueError("models: needs aligned, the model that claims of safety are about")
        for field in ("projection", "overlap"):
            if getattr(self, field) and ("base" not in known or not set(FINETUNES) & set(known)):
                raise ValueError(
                    f"{field}: needs models.base and at least one of {', '.join(FINETUNES)}; add them, or set null"
                )
        for role in self.activations.models if self.activations else ():
            if role not in known:
                raise ValueError(
                    f"activations.models: there is no model {role!r}: give models.{role}, or leave it out here"
                )
        ceiling = self.overlap.ceiling if self.overlap else None
        if ceiling is not None and (ceiling == "base" or ceiling not in known or self.models[ceiling].train is None):
            trained = ", ".join(role for role in known if role != "base" and self.models[role].train) or "none here"
            raise ValueError(f"overlap.ceiling: {ceiling!r} is no update that this study trains ({trained})")
        try:
            self._check_names_and_shares()
        except SafespanError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_names_and_shares(self) -> None:
        if grid := self.projection:
            _check_names("projection.subspaces", "claim", grid.subspaces or (), hypothesis_names())
            _check_names("projection.methods", "method", grid.methods, METHODS)
            check_shares("projection.fractions", grid.fractions)
        if self.overlap:
            _check_names("overlap.granularities", "granularity", self.overlap.granularities, GRANULARITIES)
            check_shares("overlap.energies", self.overlap.energies)
        if self.activations:
            check_shares("activations.energies", self.activations.energies)
        if self.verdict:
            self._check_verdict(self.verdict)

    def _check_verdict(self, verdict: VerdictConfig) -> None:
        named = {
            "verdict": verdict.hypotheses,
            "verdict.ablation": verdict.ablation.hypotheses,
            "verdict.training": verdict.training.hypotheses,
        }
        for field, names in named.items():
            _check_names(f"{field}.hypotheses", "claim", names or (), hypothesis_names())
        check_shares("verdict.fractions", verdict.fractions)
        if self.evaluation.utility is None or self.evaluation.harmfulness is None:
            raise ValueError("verdict: needs evaluation.utility and evaluation.harmfulness to measure u and h by")
        tests = chosen_tests(verdict, self.models)
        if "update" in tests:
            update_finetunes(self.models)
        if "training" in tests:
            source = self.models.get("contaminated")
            if source is None or source.start != "aligned" or not source.train or not source.train.contaminate_with:
                raise ValueError(
                    "verdict.tests: training needs contaminated data: models.contaminated with start: aligned and a "
                    "train with contaminate_with; give it, or leave training out"
                )
            if source.train.protect:
                raise ValueError(
                    "models.contaminated.train.protect: the training test protects each claim by itself; leave it out"
                )

    @property
    def finetunes(self) -> list[str]:
        """Roles whose updates are projected."""
        return [role for role in FINETUNES if role in self.models]

    def resolved(self, run: Path) -> "StudyConfig":
        """The same study with `{run}` replaced by the run folder."""
        text = self.model_dump_json(exclude_unset=True).replace("{run}", str(run.resolve()))
        return StudyConfig.model_validate_json(text)


def _check_names(field: str, kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    try:
        check_choices(kind, given, known)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from None


def load_study(path: Path, settings: Sequence[str] = ()) -> StudyConfig:
    """Read a study file and apply settings such as `seed=1` or `models.useful.train.max_steps=50`.

    Raises:
        ConfigError: the file is missing or not YAML, or a field is unknown, absent or wrong; names the field.
    """
    return load_settings(path, StudyConfig, settings)


def bundled_study(name: str) -> Path:
    """Path of a bundled study file: inside the installed package, or in the studies/ folder of a checkout."""
    package = Path(__file__).parents[1]
    paths = [package / "studies" / f"{name}.yaml", package.parents[1] / "studies" / f"{name}.yaml"]
    return next((path for path in paths if path.exists()), paths[0])
