"""Put the tables and figures of a run into docs/tutorial.md: `python docs/pages/tutorial_page.py runs/demo`."""

import re
import shutil
import sys
from pathlib import Path

import polars as pl
from markdown_tables import percent, table, verdict_words, with_interval

from safespan.files.atomic import write_text
from safespan.results.run_folder import RunFolder
from safespan.settings.names import TESTS
from safespan.statistics.verdicts import CLAIM

PAGE = Path(__file__).parents[1] / "tutorial.md"
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


def models(run: RunFolder) -> str:
    """The models as they are."""
    rates = ("utility", "attack_success_rate", "refusal_rate", "over_refusal_rate", "general_ability")
    rows = run.read_table("models").iter_rows(named=True)
    columns = ("utility, %", "attack success, %", "refusal, %", "over-refusal, %", "general ability, %")
    return table(
        ("model", *columns, "harmfulness"),
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
    """Energy, utility and harm of a point."""
    return row["energy_kept"], row["utility"], row["attack_success_rate"]


def overlap(run: RunFolder) -> str:
    """Mean overlap of whole layers at half of the energy."""
    rows = run.read_table("overlap").filter(pl.col("granularity") == "layer", pl.col("energy_fraction") == 0.5)
    means = rows.group_by("x", "y", "again", maintain_order=True).agg(pl.mean("mso", "mso_random"))
    return table(
        ("update", "compared with", "MSO", "floor"),
        (
            (x, f"{y}, trained again" if again else y, f"{mso:.2f}", f"{floor:.2f}")
            for x, y, again, mso, floor in means.iter_rows()
        ),
    )


def activations(run: RunFolder) -> str:
    """Centred overlap at half of the energy in the aligned model, and how well one direction tells classes apart."""
    rows = run.read_table("activations").filter(
        pl.col("centered"), pl.col("energy_fraction") == 0.5, pl.col("model") == "aligned"
    )
    apart = run.read_table("separation").filter(pl.col("model") == "aligned")
    aurocs = dict(apart.select("layer", "mean_difference_auroc").rows())
    return table(
        ("layer", "prompts", "MSO", "floor", "AUROC, difference of means"),
        (
            (
                row["layer"],
                f"two halves of {row['x']}" if row["x"] == row["y"] else f"{row['x']}, {row['y']}",
                f"{row['mso']:.2f}",
                f"{row['mso_random']:.2f}",
                f"{aurocs[row['layer']]:.2f}" if row["x"] != row["y"] else "",
            )
            for row in rows.iter_rows(named=True)
        ),
    )


def verdicts(run: RunFolder) -> str:
    """Each claim's verdicts in each test, and the statistics that they rest on; the controls of the tests last."""
    deciding = run.read_table("estimates").filter("decides", "votes")
    cells: dict[tuple[bool, str], dict[str, str]] = {}
    for row in run.read_table("verdicts").iter_rows(named=True):
        place = {name: row[name] for name in ("hypothesis", "test", "construct")}
        figures = [f"{one['statistic']} {with_interval(one)}" for one in deciding.filter(**place).iter_rows(named=True)]
        line = ", ".join([f"{row['construct']}: {verdict_words(row)}", *figures])
        of_claim = cells.setdefault((row["group"] != CLAIM, row["hypothesis"]), {})
        of_claim[row["test"]] = "<br>".join(filter(None, [of_claim.get(row["test"]), line]))
    tests = [test for test in TESTS if any(test in own for own in cells.values())]
    ordered = sorted(cells.items(), key=lambda item: item[0][0])
    return table(
        ("claim, then controls", *tests),
        ((f"`{name}`", *(own.get(test, "–") for test in tests)) for (_, name), own in ordered),
    )


def ablation(run: RunFolder) -> str:
    """The largest removal of each claim that keeps half of the capability, beside the mean of its controls."""
    rates = ("refusal_rate", "attack_success_rate", "general_ability")
    rows, cells = run.read_table("ablation"), []
    for name in rows["hypothesis"].unique(maintain_order=True):
        kept = rows.filter(pl.col("draw").is_null(), pl.col("capability_lost") < 0.5, hypothesis=name)
        own = kept.sort("energy_removed").row(-1, named=True)
        place = {key: own[key] for key in ("hypothesis", "fraction", "strength")}
        beside = rows.filter(pl.col("draw").is_not_null(), **place).select(pl.mean(*rates)).row(0)
        cells.append((f"`{name}`", *(f"{percent(own[r])} ({percent(c)})" for r, c in zip(rates, beside, strict=True))))
    return table(("removed", "refusal, % (controls)", "attack success, %", "general ability, %"), cells)


def training(run: RunFolder) -> str:
    """The end of every kind of training; of random subspaces the mean."""
    rates = ("attack_success_rate", "harmful_probability", "utility")
    ends = run.read_table("training").group_by("run", "hypothesis", "draw", maintain_order=True).last()
    means = ends.group_by("run", "hypothesis", maintain_order=True).agg(pl.mean(*rates))
    words = {"random": "a random subspace", "unprotected": "nothing", "clean": "nothing, trained without harmful rows"}
    return table(
        ("protected", "attack success, %", "probability of the forbidden answer", "utility, %"),
        (
            (
                words.get(row["run"]) or f"`{row['hypothesis']}`",
                percent(row[rates[0]]),
                f"{row[rates[1]]:.2f}",
                percent(row[rates[2]]),
            )
            for row in means.iter_rows(named=True)
        ),
    )


MADE = {table.__name__: table for table in (models, points, overlap, activations, verdicts, ablation, training)}
"""What the page can ask for by `<!-- made: NAME -->` … `<!-- end -->`."""


def main(root: Path) -> None:
    """Fill the page and copy the figures."""
    run = RunFolder(root)
    text = re.sub(
        r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)",
        lambda mark: f"{mark[1]}\n{MADE[mark[2]](run)}\n{mark[3]}",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    write_text(PAGE, text)
    for name in FIGURES:
        shutil.copy(run.figures / f"{name}.svg", PAGE.with_suffix("") / f"{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
