"""The evidence, section by section, from the tables of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from safespan.report import charts, tables


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph that introduces it, its figures, and the table that is missing if there are none."""

    anchor: str
    title: str
    text: str
    figures: list[charts.Figure]
    missing: str


_PROJECTIONS = {
    "parallel": "Only the part of each fine-tuning update that lies in the subspace is added to the aligned model.",
    "orthogonal": "The part of each fine-tuning update that lies in the subspace is taken out; the rest is added.",
}


def sections(results: Mapping[str, pl.DataFrame]) -> list[Section]:
    """The sections between the models and the generations, in the order of the experiments."""
    depth = tables.separation_facts(results["separation"], results["activations"])
    return [
        *_tests(results),
        *(
            section(
                method,
                f"{method.capitalize()} projection",
                text,
                "projection",
                *charts.projection_figures(results["projection"], results["models"], method),
            )
            for method, text in _PROJECTIONS.items()
        ),
        section(
            "overlap",
            "Overlap of updates",
            "Do alignment and fine-tuning write into the same directions of the weights?",
            "overlap",
            charts.overlap_curves(results["overlap"]),
            charts.overlap_heatmap(results["overlap"]),
        ),
        section(
            "activations",
            "Overlap of activations",
            " ".join(["Do useful and harmful prompts live in the same directions of the residual stream?", *depth]),
            "activations",
            charts.activation_overlap(results["activations"]),
            charts.separation(results["separation"]),
        ),
        section(
            "removed",
            "Where the energy goes",
            "What each projection removes, by layer and by module.",
            "removed_energy",
            *(charts.removed_energy(results["removed_energy"], place) for place in ("layer", "module")),
        ),
        section(
            "spectra",
            "Spectra of the updates",
            "How many directions an update has, and how unequal they are.",
            "spectra",
            charts.spectra(results["spectra"]),
        ),
    ]


def _tests(results: Mapping[str, pl.DataFrame]) -> list[Section]:
    """A section for each test of a claim."""
    return [
        section(
            "update",
            "Update test",
            "Is the harm of a given fine-tune concentrated there? What each hypothesis leaves of it, beside random "
            "parts of it of the same size.",
            "update",
            charts.against_controls(results["update"]),
        ),
        section(
            "ablation",
            "Ablation test",
            "Does the safety of the aligned model rest on it? What each hypothesis names is taken out of the aligned "
            "model, beside random directions of the same size.",
            "ablation",
            charts.harm_against_capability(results["ablation"]),
        ),
        section(
            "training",
            "Training test",
            "Does protecting it keep a model safe under further fine-tuning? Trainings on data with harmful rows, "
            "beside those with random controls protected.",
            "training",
            charts.harm_along_training(results["training"]),
        ),
    ]


def section(anchor: str, title: str, text: str, table: str, *figures: charts.Figure | None) -> Section:
    """A section with those of its figures that there is something to draw for."""
    return Section(anchor, title, text, [figure for figure in figures if figure], f"results/{table}.csv")
