"""Write the tables and figures of docs/smollm2.md from a run: `python studies/smollm2_page.py runs/smollm2`."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from safespan.report.verdict import reported
from safespan.files.atomic import write_text
from safespan.results.run_folder import RunFolder

FIGURES = ("parallel_energy_kept", "orthogonal_energy_kept", "overlap_curves", "activation_overlap")
START, END = "<!-- made by studies/smollm2_page.py -->\n", "<!-- end -->"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def percent(value: float) -> str:
    """A rate as a whole number of per cent."""
    return f"{100 * value:.0f}"


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
    found = run.read_table("overlap").filter(pl.col("granularity") == "layer")
    found = found.group_by("pair", "energy_fraction", maintain_order=True).agg(pl.col("mso", "mso_random").mean())
    shown = [row for row in found.iter_rows() if row[1] in (0.1, 0.5, 0.9)]
    return table(["updates", "η", "MSO", "chance"], [[a, b, f"{c:.3f}", f"{d:.3f}"] for a, b, c, d in shown])


def activation_overlap(run: RunFolder) -> str:
    """Overlap of activations, averaged over layers."""
    found = run.read_table("activations").filter(pl.col("centered"), pl.col("energy_fraction") == 0.5)
    found = found.group_by("model", "pair", maintain_order=True).agg(pl.col("k_x", "k_y", "mso", "mso_random").mean())
    cells = [[m, p, f"{x:.1f}, {y:.1f}", f"{mso:.2f}", f"{floor:.3f}"] for m, p, x, y, mso, floor in found.iter_rows()]
    return table(["model", "prompts", "directions", "MSO", "chance"], cells)


def verdicts(run: RunFolder) -> str:
    """The verdict on each hypothesis, and D under each outcome that was measured."""
    cells = []
    for found in reported(run.read_table("verdicts"), run.read_table("trials")):
        for outcome, verdict, d, reason in found.outcomes:
            under = f"{verdict}: {reason}" if d == "–" else verdict
            cells.append([found.name, found.verdict, outcome, d, under])
    return table(["hypothesis", "verdict", "outcome", "D", "under this outcome"], cells)


def main(root: Path, docs: Path = Path("docs")) -> None:
    """Put the tables into the page and the figures beside it."""
    run = RunFolder(root)
    stages = json.loads(run.manifest.read_text(encoding="utf-8"))["stages"]
    parts = [
        "### The models\n\n" + models(run),
        "### Verdicts\n\n" + verdicts(run),
        f"### Projection\n\n{projection(run)}",
        "### Overlap of updates, mean over layers\n\n" + update_overlap(run),
        "### Overlap of centred activations at η = 0.5, mean over layers\n\n" + activation_overlap(run),
        "### Time\n\n" + table(["stage", "seconds"], [[s["name"], f"{s['seconds']:.0f}"] for s in stages]),
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
