"""Settings of the four experiments of arXiv 2505.14185."""

from datetime import date
from itertools import product

from pydantic import Field

from safespan.settings.base import TEMPLATE_DATE, TEMPLATE_DATE_MEANING, Settings
from safespan.settings.data import PromptSource
from safespan.settings.names import FINETUNES, METHODS, SIDE_MEANING, SUBSPACES, Side, check_choices, check_shares

UPDATE_ENERGIES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""η for updates, as in arXiv 2505.14185."""

ACTIVATION_ENERGIES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""η for activations, as in arXiv 2505.14185."""

ACTIVATION_ROLES = ("base", "aligned", *FINETUNES)
"""The roles whose activations are taken where a study names none."""

FRACTIONS = (0.01, 0.25, 0.5, 0.75, 0.99)
"""f, as in arXiv 2505.14185."""


class ProjectionGrid(Settings):
    """The grid of projections, the same for each fine-tune."""

    subspaces: tuple[str, ...] | None = Field(
        None,
        description="names of claims that are subspaces; unset: those of "
        f"{', '.join(SUBSPACES)} whose models the study has",
    )
    methods: tuple[str, ...] = Field(
        ("parallel", "orthogonal"),
        description="parallel (the part of the update inside the subspace is added to the aligned model), orthogonal "
        "(the part outside), opposite (minus the part inside)",
    )
    fractions: tuple[float, ...] = Field(
        FRACTIONS,
        description="f in (0, 1]: the first k = max(1, round(f·min(m, n))) directions of an m × n matrix are taken",
    )
    side: Side = Field("output", description=SIDE_MEANING)

    def points(self, subspaces: tuple[str, ...]) -> list[tuple[str, str, float]]:
        """(subspace, method, fraction) of every point of one fine-tune.

        Raises:
            ConfigError: a fraction outside (0, 1], or a method that does not exist.
        """
        check_shares("fraction", self.fractions)
        check_choices("method", self.methods, METHODS)
        return list(product(subspaces, self.methods, self.fractions))


class OverlapConfig(Settings):
    """Experiment 3: overlap of update subspaces."""

    energies: tuple[float, ...] = Field(UPDATE_ENERGIES, description="η: shares of an update's energy, in (0, 1]")
    granularities: tuple[str, ...] = Field(("tensor", "layer"), description="tensor, layer, or both")
    ceiling: str | None = Field(
        None,
        description="a role whose model is trained a second time, with the next seed; updates of different roles can "
        "hardly overlap more than these two; unset: no second training",
    )


class ActivationsConfig(Settings):
    """Experiment 4: overlap of activation subspaces."""

    useful: PromptSource = Field(description="prompts of the useful class; a file, data set or preset")
    harmful: PromptSource = Field(description="prompts of the harmful class")
    halves: bool = Field(
        False, description="also measure the overlap of two random halves of each class, the most that can be expected"
    )
    models: tuple[str, ...] = Field(
        ACTIVATION_ROLES, description="roles whose activations are taken; unset: those of them that the study has"
    )
    layers: str | None = Field(None, description="range of depth, such as 0.65:0.90 of arXiv 2505.14185; unset: all")
    energies: tuple[float, ...] = Field(
        ACTIVATION_ENERGIES, description="η: shares of the activations' energy, in (0, 1]"
    )
    template_date: date = Field(TEMPLATE_DATE, description=TEMPLATE_DATE_MEANING)
    batch_size: int = Field(64, ge=1, description="prompts in one forward pass")
    permutations: int = Field(200, ge=0, description="permutations of the labels, for the overlap's p-value; 0: none")
    bootstraps: int = Field(200, ge=0, description="resamples of the prompts, for the overlap's interval; 0: none")
