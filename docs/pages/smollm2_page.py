"""Write the tables and figures of docs/smollm2.md from a run: `python docs/pages/smollm2_page.py runs/smollm2`."""

import shutil
import sys
from pathlib import Path

import polars as pl
from markdown_tables import percent, table, verdict_words, with_interval

from safespan.files.atomic import write_text
from safespan.results.run_folder import RunFolder

FIGURES = ("parallel_energy_kept", "orthogonal_energy_kept", "overlap_curves", "activation_overlap")
START, END = "<!-- made by docs/pages/smollm2_page.py -->\n", "<!-- end -->"


def models(run: RunFolder) -> str:
    """Outcomes of the models as they are."""
    columns = ("utility", "attack_success_rate", "refusal_rate", "over_refusal_rate")
    rows = run.read_table("models").iter_rows(named=True)
    cells = [[row["model"], *(percent(row[c]) for c in columns), f"{row['harmfulness']:.2f}"] for row in rows]
    return table(["model", "utility, %", "attack success, %", "refusal, %", "over-refusal, %", "harmfulness"], cells)


def projection(run: RunFolder) -> str:
    """Outcomes at every point of the grid."""
    columns = ("energy_kept", "utility", "attack_success_rate", "refusal_rate")
    cells = [
        [row["finetune"], row["subspace"], row["method"], row["fraction"], *(percent(row[c]) for c in columns)]
        for row in run.read_table("projection").iter_rows(named=True)
    ]
    header = ["fine-tune", "subspace", "method", "f", "energy kept, %", "utility, %", "attack success, %", "refusal, %"]
    return table(header, cells)


def update_overlap(run: RunFolder) -> str:
    """Overlap of updates, averaged over layers."""
    rows = run.read_table("overlap").filter(
        pl.col("granularity") == "layer", pl.col("energy_fraction").is_in([0.1, 0.5, 0.9])
    )
    means = rows.group_by("x", "y", "again", "energy_fraction", maintain_order=True).agg(pl.mean("mso", "mso_random"))
    cells = [
        [x, f"{y}, trained again" if again else y, energy, f"{mso:.3f}", f"{floor:.3f}"]
        for x, y, again, energy, mso, floor in means.iter_rows()
    ]
    return table(["update", "and update", "η", "MSO", "chance"], cells)


def activation_overlap(run: RunFolder) -> str:
    """Overlap of activations, averaged over layers."""
    rows = run.read_table("activations").filter(pl.col("centered"), pl.col("energy_fraction") == 0.5)
    means = rows.group_by("model", "x", "y", maintain_order=True).agg(pl.mean("k_x", "k_y", "mso", "mso_random"))
    cells = [
        [
            row["model"],
            f"two halves of {row['x']}" if row["x"] == row["y"] else f"{row['x']}, {row['y']}",
            f"{row['k_x']:.1f}, {row['k_y']:.1f}",
            f"{row['mso']:.2f}",
            f"{row['mso_random']:.3f}",
        ]
        for row in means.iter_rows(named=True)
    ]
    return table(["model", "prompts", "directions", "MSO", "chance"], cells)


def verdicts(run: RunFolder) -> str:
    """The verdict on each hypothesis in each test by each construct, and the statistic that decides by outcome."""
    estimates = run.read_table("estimates").filter("decides")
    cells = []
    for row in run.read_table("verdicts").iter_rows(named=True):
        place = [row["hypothesis"], row["test"], row["construct"], verdict_words(row)]
        own = estimates.filter(**{name: row[name] for name in ("hypothesis", "test", "construct")})
        for estimate in own.iter_rows(named=True):
            figure, words = with_interval(estimate), verdict_words(estimate)
            under = f"{words}: {estimate['reason']}" if figure == "–" else words
            votes = "yes" if estimate["votes"] else "no"
            cells.append([*place, estimate["outcome"], votes, f"{estimate['statistic']} {figure}", under])
        if own.is_empty():
            cells.append([*place, "–", "–", "–", row["reason"]])
    header = ["hypothesis", "test", "construct", "verdict", "outcome", "votes", "statistic", "under this outcome"]
    return table(header, cells)


def time(run: RunFolder) -> str:
    """Seconds of each stage."""
    return table(["stage", "seconds"], [[stage.name, f"{stage.seconds:.0f}"] for stage in run.read_manifest().stages])


def main(root: Path, docs: Path = Path(__file__).parents[1]) -> None:
    """Put the tables into the page and the figures beside it."""
    run = RunFolder(root)
    parts = [
        "### The models\n\n" + models(run),
        "### Verdicts\n\n" + verdicts(run),
        f"### Projection\n\n{projection(run)}",
        "### Overlap of updates, mean over layers\n\n" + update_overlap(run),
        "### Overlap of centred activations at η = 0.5, mean over layers\n\n" + activation_overlap(run),
        "### Time\n\n"
        + table(["stage", "seconds"], [[stage.name, f"{stage.seconds:.0f}"] for stage in run.read_manifest().stages]),
        *(f"![{name.replace('_', ' ')}](smollm2/{name}.svg)\n" for name in FIGURES),
    ]
    page = docs / "smollm2.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    write_text(page, before + START + "\n" + "\n".join(parts) + "\n" + END + after)
    (docs / "smollm2").mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copyfile(run.figures / f"{name}.svg", docs / "smollm2" / f"{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
