"""Settings of the paper's four experiments."""

from datetime import date
from itertools import product

from pydantic import Field

from safespan.settings.base import TEMPLATE_DATE, TEMPLATE_DATE_MEANING, Settings
from safespan.settings.data import PromptSource
from safespan.settings.names import METHODS, SUBSPACES, Side, check_choices, check_shares

UPDATE_ENERGIES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""The paper's η for updates."""

ACTIVATION_ENERGIES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""The paper's η for activations."""

FRACTIONS = (0.01, 0.25, 0.5, 0.75, 0.99)
"""The paper's f."""


class ProjectionGrid(Settings):
    """The grid of projections, the same for each fine-tune."""

    subspaces: tuple[str, ...] | None = Field(None, description=f"of {', '.join(SUBSPACES)}; unset: all there is")
    methods: tuple[str, ...] = Field(("parallel", "orthogonal"), description=f"of {', '.join(METHODS)}")
    fractions: tuple[float, ...] = Field(FRACTIONS, description="f in (0, 1]: rank k = max(1, round(f·min(m, n)))")
    side: Side = Field("output", description="project outputs (as in the paper), inputs, or both")

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
        description="a role trained once more with the next seed: how much two runs of one recipe overlap; unset: none",
    )


class ActivationsConfig(Settings):
    """Experiment 4: overlap of activation subspaces."""

    useful: PromptSource = Field(description="prompts of the useful class; a file, data set or preset")
    harmful: PromptSource = Field(description="prompts of the harmful class")
    halves: bool = Field(
        False, description="also measure the overlap of two random halves of each class: how much is to be had at most"
    )
    models: tuple[str, ...] = Field(
        ("base", "aligned", "useful", "harmful", "contaminated"), description="roles whose activations are taken"
    )
    layers: str | None = Field(None, description="range of depth such as 0.65:0.90 (the paper's); unset: all layers")
    energies: tuple[float, ...] = Field(ACTIVATION_ENERGIES, description="η, in (0, 1]")
    template_date: date = Field(TEMPLATE_DATE, description=TEMPLATE_DATE_MEANING)
    batch_size: int = Field(64, ge=1, description="prompts a forward pass")
    permutations: int = Field(200, ge=0, description="of the class labels, for the overlap's p-value; 0: none")
    bootstraps: int = Field(200, ge=0, description="resamples of the prompts, for the overlap's interval; 0: none")
