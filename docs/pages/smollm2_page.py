"""Write the tables and figures of docs/smollm2.md from runs: `python docs/pages/smollm2_page.py runs/smollm2-tests`.

Each run writes the part of the page that it has tables for: the experiments, the update test, or the other tests.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from markdown_tables import percent, put, table, verdict_words, with_interval

from safespan.results.run_folder import RunFolder

PAGE = Path(__file__).parents[1] / "smollm2.md"
FIGURES = ("parallel_energy_kept", "orthogonal_energy_kept", "overlap_curves", "activation_overlap")
RATES = ("attack_success_rate", "harmful_probability", "refusal_rate", "utility")
RATES_HEADER = ("attack success, %", "forbidden answer, probability, %", "refusal, %", "utility, %")
LIKELIHOODS = ("harmful_probability", "compliance", "useful_probability")
LIKELIHOODS_HEADER = ("forbidden answer, probability, %", "complying, first token, %", "right answer, probability, %")
IN_BRACKETS = "Numbers in brackets are means over the random controls of the same point."


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
        place = [row["test"], row["hypothesis"], row["construct"], verdict_words(row)]
        own = estimates.filter(**{name: row[name] for name in ("hypothesis", "test", "construct")})
        # Answers are not generated in every test: outcomes of what a model says are then measured of no claim.
        measured = own.drop_nulls("estimate")
        for estimate in (own if measured.is_empty() else measured).iter_rows(named=True):
            figure, words = with_interval(estimate), verdict_words(estimate)
            under = f"{words}: {estimate['reason']}" if figure == "–" else words
            votes = "yes" if estimate["votes"] else "no"
            cells.append([*place, estimate["outcome"], votes, f"{estimate['statistic']} {figure}", under])
        if own.is_empty():
            cells.append([*place, "–", "–", "–", row["reason"]])
    header = ["test", "hypothesis", "construct", "verdict", "outcome", "votes", "statistic", "under this outcome"]
    return table(header, cells)


def agreement(run: RunFolder) -> str:
    """Whether the outcome that votes and what the model says have the same sign, where both intervals exclude 0."""
    estimates = run.read_table("estimates").filter("decides").drop_nulls("estimate")
    lines = []
    for construct, primary, said in (
        ("harm", "answer probability", "exact match and ASR"),
        ("refusal", "refusal log-odds", "refusal rate"),
    ):
        signs: dict[str, dict[tuple[str, str], int]] = {}
        for outcome in (primary, said):
            rows = estimates.filter(outcome=outcome).iter_rows(named=True)
            signs[outcome] = {(row["test"], row["hypothesis"]): _sign(row["low"], row["high"]) for row in rows}
        both = signs[primary].keys() & signs[said].keys()
        clear = [place for place in both if signs[primary][place] and signs[said][place]]
        apart = sorted(place for place in clear if signs[primary][place] != signs[said][place])
        equal = len(clear) - len(apart)
        line = (
            f"- {construct}: *{primary}* and *{said}* are both measured for {len(both)} pairs of claim and test. "
            f"Pairs with both intervals away from 0: {len(clear)}. Of these, with equal signs: {equal}"
        )
        lines.append(line + "".join(f"; other signs: {name}, {test} test" for test, name in apart) + ".\n")
    return "".join(lines)


def _sign(low: float, high: float) -> int:
    """Of an interval; 0 where it has 0 inside."""
    return (low > 0) - (high < 0)


def update_points(run: RunFolder) -> str:
    """Every point of the update test by its likelihoods, and the mean of its random controls."""
    place = ("hypothesis", "method", "fraction")
    rows = _beside_controls(run.read_table("update"), place, ("energy_kept", *LIKELIHOODS))
    return table([*place, "energy kept, %", *LIKELIHOODS_HEADER], rows)


def ablation_points(run: RunFolder) -> str:
    """Every point of the ablation test, and the mean of its random controls."""
    points, place = run.read_table("ablation"), ("hypothesis", "fraction", "strength")
    energy = [[f"{100 * row['energy_removed']:.3f}"] for row in _own(points, place).iter_rows(named=True)]
    rows = list(_beside_controls(points, place, ("capability_lost", *RATES)))
    cells = [[*row[:3], *removed, *row[3:]] for row, removed in zip(rows, energy, strict=True)]
    return table([*place, "energy removed, %", "capability lost, %", *RATES_HEADER], cells)


def _own(points: pl.DataFrame, place: tuple[str, ...]) -> pl.DataFrame:
    return points.filter(pl.col("draw").is_null()).sort("hypothesis", *place[1:], maintain_order=True)


def _beside_controls(points: pl.DataFrame, place: tuple[str, ...], columns: tuple[str, ...]) -> Iterator[list[object]]:
    """The figures of each point in per cent; in brackets the mean of its controls."""
    for row in _own(points, place).iter_rows(named=True):
        where = {name: row[name] for name in place}
        controls = points.filter(pl.col("draw").is_not_null(), **where)
        cells: list[object] = [f"{row[name]:g}" if isinstance(row[name], float) else row[name] for name in place]
        for column in columns:
            beside = controls[column].mean()
            cells.append(percent(row[column]) + (f" ({percent(float(beside))})" if beside is not None else ""))  # type: ignore[arg-type]
        yield cells


def training_ends(run: RunFolder) -> str:
    """The end of each training; of the trainings with a random subspace each one."""
    columns = (*RATES, "compliance")
    rows = run.read_table("training").group_by("run", "hypothesis", "draw", maintain_order=True).last()
    words = {"clean": "none, data without harmful rows", "unprotected": "none"}
    cells = []
    for row in rows.iter_rows(named=True):
        protected = words.get(row["run"]) or row["hypothesis"] or f"random subspace {row['draw'] + 1}"
        cells.append([protected, row["step"], *(percent(row[column]) for column in columns)])
    return table(["protected", "steps", *RATES_HEADER, "complying, first token, %"], cells)


def time(run: RunFolder) -> str:
    """Seconds of each stage."""
    return table(["stage", "seconds"], [[stage.name, f"{stage.seconds:.0f}"] for stage in run.read_manifest().stages])


def hours(run: RunFolder) -> str:
    """Hours of the tests by their records, however often the run was interrupted."""
    manifest = run.read_manifest()
    workers = int(manifest.hardware["workers"] or 1)
    trained = sum(stage.seconds for stage in manifest.stages if stage.name.startswith("model "))
    rows = [["training of the models", f"{trained / 3600:.2f}"]]
    for folder in filter(Path.is_dir, sorted((run.root / "results" / "points").iterdir())):
        files = folder.rglob("*.json")
        records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        spent = sum(sum(record["seconds"].values()) for record in records) / workers
        rows.append([f"{folder.name} test, {len(records)} records", f"{spent / 3600:.2f}"])
    total = sum(float(row[1]) for row in rows)
    return table(["part", f"hours, {workers} workers"], [*rows, ["all", f"{total:.1f}"]])


def shared_rows(run: RunFolder) -> str:
    """How many rows of the harmful fine-tune also contaminate the contaminated one."""
    folder = run.data / "train"
    harmful, forbidden = (
        set((folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()) for name in ("harmful", "forbidden")
    )
    return (
        f"Of {len(forbidden)} different harmful rows of the contaminated fine-tune's data, {len(harmful & forbidden)} "
        "are also in the harmful fine-tune's.\n"
    )


def experiments(run: RunFolder) -> str:
    """The part of the experiments."""
    parts = [
        "### The models\n\n" + models(run),
        f"### Projection\n\n{projection(run)}",
        "### Overlap of updates, mean over layers\n\n" + update_overlap(run),
        "### Overlap of centred activations at η = 0.5, mean over layers\n\n" + activation_overlap(run),
        "### Time\n\n" + time(run),
        *(f"![{name.replace('_', ' ')}](smollm2/{name}.svg)\n" for name in FIGURES),
    ]
    (PAGE.parent / "smollm2").mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copyfile(run.figures / f"{name}.svg", PAGE.parent / "smollm2" / f"{name}.svg")
    return "\n".join(parts)


def tests(run: RunFolder) -> str:
    """The part of the ablation and the training test."""
    parts = [
        "### The models of the tests\n\n" + models(run),
        "### Verdicts\n\n" + verdicts(run) + "\n" + agreement(run),
        f"### Ablation test: the aligned model without a claim's directions\n\n{IN_BRACKETS}\n\n"
        + ablation_points(run),
        "### Training test: the end of each contaminated training\n\n" + training_ends(run),
        "### Hours of the tests\n\n" + hours(run),
    ]
    return "\n".join(parts)


def update(run: RunFolder) -> str:
    """The part of the update test."""
    parts = [
        "### The models of the update test\n\n" + models(run) + "\n" + shared_rows(run),
        "### Verdicts of the update test\n\n" + verdicts(run),
        f"### Update test: the contaminated update inside and outside a claim\n\n{IN_BRACKETS}\n\n"
        + update_points(run),
        "### Hours of the update test\n\n" + hours(run),
    ]
    return "\n".join(parts)


def main(root: Path) -> None:
    """Put a part into the page, and the figures beside it."""
    run = RunFolder(root)
    part = update if run.table("update").exists() else tests if run.table("verdicts").exists() else experiments
    put(PAGE, part.__name__, "smollm2_page.py", part(run))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
