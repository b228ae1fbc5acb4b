"""What a study file may say; every field explains itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from safespan.choices import GRANULARITIES, METHODS, check_shares, hypothesis_names, tested_by_default
from safespan.data import PromptSource
from safespan.errors import ConfigError, SafespanError
from safespan.evaluation import EvaluationConfig, MeasureConfig
from safespan.execution import ExecutionConfig
from safespan.overlap import ENERGY_FRACTIONS
from safespan.projection import ProjectionGrid, lacking, trial_finetunes
from safespan.settings import load_settings
from safespan.statistics.selectivity import SelectivityConfig
from safespan.subspaces import Side, find_hypothesis
from safespan.training.recipe import TrainingConfig

FINETUNES = ("useful", "harmful", "contaminated")
ROLES = ("base", "aligned", *FINETUNES, "safe")
ORGANISM = "organism"


class ModelSource(BaseModel):
    """Where the model of one role comes from: a model that exists, or a training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(None, description="a folder, hub id[@revision], BASE+ADAPTER or .gguf file")
    size_gb: float | None = Field(None, gt=0, description="of the weights of a hub id, for the plan of a dry run")
    start: str | None = Field(
        None, description=f"the role to train from, or '{ORGANISM}': a freshly initialised model of the embedded family"
    )
    train: TrainingConfig | None = Field(None, description="how the start is trained")

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSource":
        if (self.model is None) == (self.start is None) or (self.start is None) != (self.train is None):
            raise ValueError("give either model, or start together with train")
        return self


class OverlapConfig(BaseModel):
    """Experiment 3: overlap of update subspaces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    energies: tuple[float, ...] = Field(ENERGY_FRACTIONS, description="η: shares of an update's energy, in (0, 1]")
    granularities: tuple[str, ...] = Field(("tensor", "layer"), description="tensor, layer, or both")
    ceiling: str | None = Field(
        None,
        description="a role trained once more with the next seed: how much two runs of one recipe overlap; unset: none",
    )


class ActivationsConfig(BaseModel):
    """Experiment 4: overlap of activation subspaces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    useful: PromptSource = Field(description="prompts of the useful class; a file, data set or preset")
    harmful: PromptSource = Field(description="prompts of the harmful class")
    halves: bool = Field(
        False, description="also measure the overlap of two random halves of each class: how much is to be had at most"
    )
    models: tuple[str, ...] = Field(
        ("base", "aligned", "useful", "harmful", "contaminated"), description="roles whose activations are taken"
    )
    layers: str | None = Field(None, description="range of depth such as 0.65:0.90 (the paper's); unset: all layers")
    energies: tuple[float, ...] = Field((0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), description="η, in (0, 1]")
    batch_size: int = Field(64, ge=1, description="prompts a forward pass")
    permutations: int = Field(200, ge=0, description="of the class labels, for the overlap's p-value; 0: none")
    bootstraps: int = Field(200, ge=0, description="resamples of the prompts, for the overlap's interval; 0: none")


class VerdictConfig(SelectivityConfig, MeasureConfig):
    """The test of claimed safety subspaces: which claims, along which fractions, and how it is decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hypotheses: tuple[str, ...] | None = Field(
        None, min_length=1, description="names, as `safespan hypotheses` lists them; unset: all that the models allow"
    )
    fractions: tuple[float, ...] = Field(
        (0.02, 0.1, 0.25, 0.5, 0.75, 1.0), min_length=1, description="f in (0, 1]: points of the frontier"
    )
    side: Side = Field("output", description="of the bases of singular vectors: output (as in the paper), input, both")


class StudyConfig(BaseModel):
    """A whole study. In any file name `{run}` stands for the run folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="title of the study")
    seed: int = Field(0, ge=0, description="of training, data and random controls")
    threads: int | None = Field(None, ge=1, description="CPU threads of the linear algebra; unset: all cores")
    data: Literal["organism", "english"] | None = Field(
        None, description="training rows, prompts and tasks that the run makes for itself in {run}/data; unset: none"
    )
    models: dict[str, ModelSource] = Field(description=f"role ({', '.join(ROLES)}) -> source, a start before its use")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="outcomes; unset: energies and overlaps only")
    projection: ProjectionGrid | None = Field(ProjectionGrid(), description="experiments 1 and 2; null: left out")
    overlap: OverlapConfig | None = Field(OverlapConfig(), description="experiment 3; null: left out")
    activations: ActivationsConfig | None = Field(None, description="experiment 4; unset: left out")
    verdict: VerdictConfig | None = Field(None, description="test of claimed safety subspaces; unset: left out")
    execution: ExecutionConfig = Field(ExecutionConfig(), description="where decompositions and points run")

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        known: list[str] = []
        for role, source in self.models.items():
            if role not in ROLES:
                raise ValueError(f"models.{role}: unknown role, expected one of {', '.join(ROLES)}")
            if source.start not in (None, ORGANISM, *known):
                raise ValueError(f"models.{role}.start: {source.start!r} is not a role defined above it")
            known.append(role)
        if not {"base", "aligned"} <= set(known) or not set(FINETUNES) & set(known):
            raise ValueError(f"models: needs base, aligned and at least one of {', '.join(FINETUNES)}")
        for role in self.activations.models if self.activations else ():
            if role not in known:
                raise ValueError(f"activations.models: there is no model {role!r}")
        ceiling = self.overlap.ceiling if self.overlap else None
        if ceiling is not None and (ceiling == "base" or ceiling not in known or self.models[ceiling].train is None):
            trained = ", ".join(role for role in known if role != "base" and self.models[role].train) or "none here"
            raise ValueError(f"overlap.ceiling: {ceiling!r} is no update that this study trains ({trained})")
        self._check_grids()
        return self

    def _check_grids(self) -> None:
        asked = (self.projection and self.projection.subspaces) or ()
        for kind, given, allowed in (
            ("projection.subspaces", asked, hypothesis_names()),
            ("projection.methods", self.projection.methods if self.projection else (), METHODS),
            ("overlap.granularities", self.overlap.granularities if self.overlap else (), GRANULARITIES),
            ("verdict.hypotheses", (self.verdict and self.verdict.hypotheses) or (), hypothesis_names()),
        ):
            for name in given:
                if name not in allowed:
                    raise ValueError(f"{kind}: unknown {name!r}, expected one of {', '.join(allowed)}")
        if "safety" in asked and "safe" not in self.models:
            raise ValueError("projection.subspaces: 'safety' needs a model in the role safe")
        try:
            check_shares("fraction", self.projection.fractions if self.projection else ())
            check_shares("energy fraction", self.overlap.energies if self.overlap else ())
            check_shares("verdict.fractions", self.verdict.fractions if self.verdict else ())
            self._check_verdict()
            check_shares("energy fraction", self.activations.energies if self.activations else ())
        except SafespanError as error:
            raise ValueError(str(error)) from None

    def _check_verdict(self) -> None:
        """What a verdict needs is said before anything is trained."""
        if self.verdict is None:
            return
        trial_finetunes(self.models)
        if self.evaluation.utility is None or self.evaluation.harmfulness is None:
            raise ConfigError("verdict: needs evaluation.utility and evaluation.harmfulness to measure u and h by")
        for name in self.verdict.hypotheses or ():
            if lacks := lacking(find_hypothesis(name), self._has):
                raise ConfigError(f"verdict.hypotheses: {name!r} needs {lacks}: give it, or leave the hypothesis out")

    @property
    def _has(self) -> list[str]:
        """The needs of hypotheses that this study meets; prompts are those of field activations."""
        given = {"base", "safe", "harmful"} & self.models.keys()
        return [*sorted(given), *(["prompts"] if self.activations else [])]

    @property
    def tested(self) -> list[str]:
        """The hypotheses that the verdict is on: those named, or all that the models and prompts allow."""
        if self.verdict is None:
            return []
        if self.verdict.hypotheses is not None:
            return list(self.verdict.hypotheses)
        return [name for name in tested_by_default() if not lacking(find_hypothesis(name), self._has)]

    @property
    def finetunes(self) -> list[str]:
        """Roles whose updates are projected."""
        return [role for role in FINETUNES if role in self.models]

    def resolved(self, run: Path) -> "StudyConfig":
        """The same study with `{run}` replaced by the run folder."""
        text = self.model_dump_json(exclude_unset=True).replace("{run}", str(run.resolve()))
        return StudyConfig.model_validate_json(text)


def load_study(path: Path, settings: Sequence[str] = ()) -> StudyConfig:
    """Read a study file and apply settings such as `seed=1` or `models.useful.train.max_steps=50`.

    Raises:
        ConfigError: the file is missing or not YAML, or a field is unknown, absent or wrong; names the field.
    """
    return load_settings(path, StudyConfig, settings)


def bundled_study(name: str) -> Path:
    """A study file that comes with safespan: inside the installed package, or in the checkout's studies/."""
    here = Path(__file__).parent
    places = [here / "studies" / f"{name}.yaml", here.parents[1] / "studies" / f"{name}.yaml"]
    return next((path for path in places if path.exists()), places[0])
