"""The evidence, section by section, from the tables of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from safespan.report import charts, tables


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs that introduce it, its figures, and the table that they are drawn from.

    Attributes:
        folded: whether readers open it.
    """

    anchor: str
    title: str
    text: Sequence[str]
    figures: list[charts.Figure]
    table: str
    folded: bool = False


_FINETUNE = "contaminated"
"""The fine-tune of the facts on projections: the only one that moves utility and harm both."""
_PROJECTIONS = {
    "parallel": "Only the part of each fine-tuning update that lies in the subspace is added to the aligned model.",
    "orthogonal": "The part of each fine-tuning update that lies in the subspace is taken out; the rest is added.",
}


def sections(results: Mapping[str, pl.DataFrame]) -> list[Section]:
    """The sections between the models and the generations, in the order of the experiments."""
    return [
        *_tests(results),
        section(
            "overlap",
            "Overlap of updates",
            [
                "Do alignment and fine-tuning write into the same directions of the weights?",
                *tables.overlap_facts(results["overlap"]),
            ],
            "overlap",
            charts.overlap_curves(results["overlap"]),
            charts.overlap_heatmap(results["overlap"]),
        ),
        section(
            "activations",
            "Overlap of activations",
            [
                "Do useful and harmful prompts live in the same directions of the residual stream?",
                *tables.activation_facts(results["activations"]),
                *tables.separation_facts(results["separation"], results["activations"]),
            ],
            "activations",
            charts.activation_overlap(results["activations"]),
            charts.separation(results["separation"]),
        ),
        *(
            section(
                method,
                f"{method.capitalize()} projection",
                [text, *tables.halfway_facts(results["projection"], _FINETUNE, method)],
                "projection",
                *charts.projection_figures(results["projection"], results["models"], method),
                folded=True,
            )
            for method, text in _PROJECTIONS.items()
        ),
        section(
            "removed",
            "Where the energy goes",
            ["What each projection removes, by layer and by module."],
            "removed_energy",
            *(charts.removed_energy(results["removed_energy"], place) for place in ("layer", "module")),
            folded=True,
        ),
        section(
            "spectra",
            "Spectra of the updates",
            ["How many directions an update has, and how unequal they are."],
            "spectra",
            charts.spectra(results["spectra"]),
            folded=True,
        ),
    ]


def _tests(results: Mapping[str, pl.DataFrame]) -> list[Section]:
    """A section for each test of a claim."""
    return [
        section(
            "update",
            "Update test",
            [
                "Is the harm of a given fine-tune concentrated in the subspace of a hypothesis? What is left of harm "
                "and utility with the part along each subspace, beside random parts of the same energy."
            ],
            "update",
            charts.against_controls(results["update"]),
        ),
        section(
            "ablation",
            "Ablation test",
            [
                "Does the safety of the aligned model rest on the subspace of a hypothesis? What each names is removed "
                "from the aligned model, beside random directions of the same energy."
            ],
            "ablation",
            charts.harm_against_capability(results["ablation"]),
        ),
        section(
            "training",
            "Training test",
            [
                "Does protecting the subspace of a hypothesis keep a model safe under further fine-tuning? Trainings "
                "on data with harmful rows, beside those with random controls protected."
            ],
            "training",
            charts.harm_along_training(results["training"]),
        ),
    ]


def section(
    anchor: str, title: str, text: Sequence[str], table: str, *figures: charts.Figure | None, folded: bool = False
) -> Section:
    """A section with those of its figures that there is something to draw for."""
    return Section(anchor, title, text, [figure for figure in figures if figure], f"results/{table}.csv", folded)
