"""Put the tables and figures of a run into docs/tutorial.md: `python docs/tutorial_page.py runs/demo`."""

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from safespan.files.atomic import write_text
from safespan.results.run_folder import RunFolder

PAGE = Path(__file__).parent / "tutorial.md"
FIGURES = (
    "parallel_fraction",
    "parallel_energy_kept",
    "orthogonal_energy_kept",
    "removed_by_layer",
    "overlap_curves",
    "spectra",
    "activation_overlap",
    "verdicts",
)
FINETUNE = "contaminated"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def percent(value: float | None) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.0f}"


def models(run: RunFolder) -> str:
    """The models as they are."""
    rates = ("utility", "attack_success_rate", "refusal_rate", "over_refusal_rate", "general_ability")
    rows = run.read_table("models").iter_rows(named=True)
    return table(
        ("model", "utility, %", "attack success, %", "refusal, %", "over-refusal, %", "general, %", "harmfulness"),
        ((row["model"], *(percent(row[rate]) for rate in rates), f"{row['harmfulness']:.2f}") for row in rows),
    )


def points(run: RunFolder) -> str:
    """The contaminated fine-tune on and off two subspaces."""
    rows = (
        run.read_table("projection")
        .filter(pl.col("finetune") == FINETUNE, pl.col("subspace").is_in(["alignment", "random"]))
        .sort("method", "fraction", "subspace", descending=[True, False, False])
    )
    return table(
        ("subspace", "method", "f", "energy kept, %", "utility, %", "attack success, %"),
        (
            (row["subspace"], row["method"], row["fraction"], *map(percent, shown(row)))
            for row in rows.iter_rows(named=True)
        ),
    )


def shown(row: dict[str, float]) -> tuple[float, float, float]:
    """Energy, use and harm of a point."""
    return row["energy_kept"], row["utility"], row["attack_success_rate"]


def overlap(run: RunFolder) -> str:
    """Mean overlap of whole layers at half of the energy."""
    rows = run.read_table("overlap").filter(pl.col("granularity") == "layer", pl.col("energy_fraction") == 0.5)
    means = rows.group_by("pair", maintain_order=True).agg(pl.mean("mso", "mso_random"))
    return table(
        ("pair", "MSO", "floor"),
        ((row["pair"], f"{row['mso']:.2f}", f"{row['mso_random']:.2f}") for row in means.iter_rows(named=True)),
    )


def activations(run: RunFolder) -> str:
    """Centred overlap at half of the energy in the aligned model, and how well one direction tells classes apart."""
    rows = run.read_table("activations").filter(
        pl.col("centered"), pl.col("energy_fraction") == 0.5, pl.col("model") == "aligned"
    )
    apart = run.read_table("separation").filter(pl.col("model") == "aligned")
    aurocs = dict(apart.select("layer", "mean_difference_auroc").rows())
    return table(
        ("layer", "pair", "MSO", "floor", "AUROC, difference of means"),
        (
            (
                row["layer"],
                row["pair"],
                f"{row['mso']:.2f}",
                f"{row['mso_random']:.2f}",
                f"{aurocs[row['layer']]:.2f}" if row["pair"] == "useful-harmful" else "",
            )
            for row in rows.iter_rows(named=True)
        ),
    )


def verdicts(run: RunFolder) -> str:
    """Each claim's verdict over all outcomes, and its D under each."""
    found = run.read_table("verdicts")
    outcomes = [name for name in found["outcome"].unique(maintain_order=True) if name != "all"]
    rows = []
    for name in found["hypothesis"].unique(maintain_order=True):
        own = found.filter(pl.col("hypothesis") == name)
        whole = own.row(by_predicate=pl.col("outcome") == "all", named=True)
        words = f"{whole['verdict']}, {whole['direction']}" if whole["direction"] else whole["verdict"]
        rows.append((f"`{name}`", words, *(separation(own, outcome) for outcome in outcomes)))
    return table(("claim", "verdict", *(f"D, {outcome}" for outcome in outcomes)), rows)


def separation(own: pl.DataFrame, outcome: str) -> str:
    """D with its interval; a dash where it was not measurable."""
    rows = own.filter(pl.col("outcome") == outcome, pl.col("method") == "separation")
    if rows.is_empty():
        return "–"
    row = rows.row(0, named=True)
    return f"{row['s']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


MADE = {table.__name__: table for table in (models, points, overlap, activations, verdicts)}
"""What the page can ask for by `<!-- made: NAME -->` … `<!-- end -->`."""


def main(root: Path) -> None:
    """Fill the page and copy the figures."""
    run = RunFolder(root)
    text = re.sub(
        r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{MADE[found[2]](run)}\n{found[3]}",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    write_text(PAGE, text)
    for name in FIGURES:
        shutil.copy(run.figures / f"{name}.svg", PAGE.with_suffix("") / f"{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
