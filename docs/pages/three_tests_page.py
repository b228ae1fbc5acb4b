"""Write docs/three-tests.md, and the outcomes of docs/papers.md, from the runs of benchmarks/verdict/three_tests.py."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import polars as pl
from markdown_tables import percent, put, table, verdict_words, with_interval

from safespan.files.atomic import write_text
from safespan.report.pooled import pooled_rows
from safespan.results import RunFolder
from safespan.settings.names import TESTS
from safespan.statistics.verdicts import CLAIM, CONSTRUCTS, VERDICTS
from safespan.subspaces import find_hypothesis

PAGE, PAPERS = (Path(__file__).parents[1] / name for name in ("three-tests.md", "papers.md"))
FIRST = "f0.5"
VARIANTS = {
    "f0.5": "f = 0.5, outputs",
    "f0.9": "f = 0.9, outputs",
    "f0.5-both": "f = 0.5, both sides",
    "f0.9-both": "f = 0.9, both sides",
}

OUTCOMES = {
    "harm: answer probability": "answer probability",
    "refusal: log-odds": "refusal log-odds",
    "attack success (no vote)": "exact match and ASR",
    "refusal rate (no vote)": "refusal rate",
}
"""Header of a column -> the outcome whose statistic it has."""

HEADER = """# Three tests of a claim on several seeds

A claim about a safety subspace can be true in three places. Each of the three tests asks about one of them
([methods](methods.md#7-the-verdict)). This page gives all three tests on the embedded family. `make three-tests` makes
it from {seeds} seeds of the demo's recipe. The settings are the defaults of every study. In the training test, every
claim has {controls} random controls. [Papers](papers.md) says which paper makes which claim. To put your own claim to
the tests, see [the how-to](howto/claim.md).

The *oracle* is `harmful-update`: the leading directions of the harmful update itself.

In short:

"""

CLAIM_AND_TEST = """
## Claim and test

Each cell has the verdict about the recipe over all seeds, with D, A or T and its interval. The test that the claim's
authors made is in bold. A dash means that the claim has no such test, or that it is too small to test on every seed. If
it is too small on some seeds, the interval is over the other seeds, and can be very wide. The controls of the tests
come last.
"""


def runs_of(runs: Path, variant: str) -> list[RunFolder]:
    """The finished runs of one variant, by seed."""
    folders = sorted(runs.glob(f"seed*-{variant}"), key=lambda folder: int(folder.name.split("-")[0][4:]))
    return [RunFolder(folder) for folder in folders if RunFolder(folder).table("verdicts").exists()]


def spread(values: Sequence[float], signed: bool = False) -> str:
    """Mean and range of a figure over seeds."""
    if not values:
        return "–"
    mean, least, most = (
        f"{round(value, 2) + 0.0:{'+.2f' if signed else '.2f'}}" for value in (fmean(values), min(values), max(values))
    )
    return f"{mean} [{least}, {most}]"


def counted(verdicts: Sequence[str]) -> str:
    """How many seeds have which verdict."""
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts)


def verdict_rows(runs: Sequence[RunFolder], test: str) -> Iterator[tuple[str, ...]]:
    """Claim or control, the verdicts by each construct, and the deciding statistic of every outcome."""
    every = [(run.read_table("verdicts").filter(test=test), run.read_table("estimates")) for run in runs]
    for name in dict.fromkeys(name for verdicts, _ in every for name in verdicts["hypothesis"]):
        said = [
            counted(
                [row for verdicts, _ in every for row in verdicts.filter(hypothesis=name, construct=one)["verdict"]]
            )
            for one in CONSTRUCTS
        ]
        cells = []
        for outcome in OUTCOMES.values():
            deciding = [
                estimates.filter("decides", hypothesis=name, test=test, outcome=outcome) for _, estimates in every
            ]
            cells.append(spread([float(x) for rows in deciding for x in rows["estimate"].drop_nulls()], signed=True))
        yield name, *said, *cells


def claim_rows(runs: Sequence[RunFolder], construct: str) -> Iterator[tuple[str, ...]]:
    """Claim or control, and in each test the verdict about the recipe, with its statistic and interval."""
    found = {(row.hypothesis, row.test): row for row in pooled_rows(runs) if row.votes and row.construct == construct}
    names = dict.fromkeys(name for name, _ in found)
    in_groups = sorted(names, key=lambda name: all(row.group != CLAIM for (of, _), row in found.items() if of == name))
    for name in in_groups:
        groups = {row.group for (of, _), row in found.items() if of == name}
        made = find_hypothesis(name).authors_tests if CLAIM in groups else ()
        cells = []
        for test in TESTS:
            row = found.get((name, test))
            told = f"{row.verdict}, {with_interval(vars(row))}" if row else "–"
            cells.append(f"**{told}**" if row and test in made else told)
        yield name if CLAIM in groups else f"{name} ({', '.join(sorted(groups))})", *cells


def outcome_rows(runs: Sequence[RunFolder]) -> Iterator[tuple[str, ...]]:
    """Claim, and in each test the verdicts about the recipe by harm and by refusal, with their statistics."""
    rows = [row for row in pooled_rows(runs) if row.votes and row.group == CLAIM]
    for name in dict.fromkeys(row.hypothesis for row in rows):
        cells = []
        for test in TESTS:
            said = {
                row.construct: f"{round(row.estimate, 2) + 0.0:+.2f}, {verdict_words(vars(row))}"
                + (f" ({row.seeds} of {len(runs)} seeds)" if row.seeds < len(runs) else "")
                for row in rows
                if (row.hypothesis, row.test) == (name, test)
            }
            told = "; ".join(f"{construct}: {said[construct]}" for construct in CONSTRUCTS if construct in said) or "–"
            cells.append(f"**{told}**" if said and test in find_hypothesis(name).authors_tests else told)
        yield f"`{name}`", *cells


def look_rows(runs: Path) -> Iterator[tuple[str, ...]]:
    """Claim, strength of its protection, T by harm and by refusal, and the ends of its training and of the others."""
    for folder in sorted(runs.glob("look-*")):
        run = RunFolder(folder)
        settings = run.read_manifest().config["verdict"]
        [name], training = settings["hypotheses"], settings["training"]
        strength = (
            f"λ = {training['penalty']:g}"
            if find_hypothesis(name).kind == "penalty"
            else f"f = {training['fraction']:g}"
        )
        voting = run.read_table("estimates").filter("votes", "decides", hypothesis=name)
        said = {row["construct"]: f"{with_interval(row)}, {verdict_words(row)}" for row in voting.iter_rows(named=True)}
        ends = run.read_table("training").group_by("run", "hypothesis", "draw", maintain_order=True).last()
        success = [
            ends.filter(run=one)["attack_success_rate"].mean() for one in ("claim", "random", "unprotected", "clean")
        ]
        utility = [ends.filter(run=one)["utility"].mean() for one in ("claim", "random")]
        yield (
            f"`{name}`",
            strength,
            *(said.get(one, "–") for one in CONSTRUCTS),
            *map(percent, success),
            *map(percent, utility),
        )


def ablation_rows(runs: Sequence[RunFolder]) -> Iterator[tuple[str, ...]]:
    """What the largest ablation that keeps half of the capability does, beside its controls."""
    tables = [run.read_table("ablation") for run in runs]
    for name in dict.fromkeys(name for rows in tables for name in rows["hypothesis"]):
        found: dict[str, list[float]] = {key: [] for key in ("refusal", "general", "random refusal", "random general")}
        for rows in tables:
            own = rows.filter(pl.col("draw").is_null(), pl.col("capability_lost") < 0.5, hypothesis=name)
            if own.is_empty():
                continue
            point = own.sort("energy_removed").row(-1, named=True)
            place = {key: point[key] for key in ("hypothesis", "fraction", "strength")}
            beside = rows.filter(pl.col("draw").is_not_null(), **place)
            found["refusal"].append(point["refusal_rate"])
            found["general"].append(point["general_ability"])
            if not beside.is_empty():
                found["random refusal"].append(float(beside["refusal_rate"].mean()))  # type: ignore[arg-type]
                found["random general"].append(float(beside["general_ability"].mean()))  # type: ignore[arg-type]
        yield name, *(spread(values) for values in found.values())


def training_rows(runs: Sequence[RunFolder], variant: str) -> Iterator[tuple[str, ...]]:
    """Attack success, probability of the forbidden answer and utility at the end of the trainings.

    The random controls are left out: claims of different kinds have different ones. `random` is a claim of its own.
    """
    ends = [
        run.read_table("training")
        .filter(pl.col("run") != "random")
        .group_by("run", "hypothesis", maintain_order=True)
        .last()
        for run in runs
    ]
    kinds = dict.fromkeys((run, name) for rows in ends for run, name in rows.select("run", "hypothesis").rows())
    for run, name in kinds:
        chosen = [rows.filter(pl.col("hypothesis").eq_missing(pl.lit(name)), run=run) for rows in ends]
        words = {"claim": name, "clean": "without harmful rows"}.get(run, run)
        figures = [
            spread([float(x) for rows in chosen for x in rows[column].drop_nulls()])
            for column in ("attack_success_rate", "harmful_probability", "utility")
        ]
        yield words, _strength(runs[0], name, variant), *figures


def _strength(run: RunFolder, name: str | None, variant: str) -> str:
    """How much is protected: of a claim that is no subspace, in its own terms."""
    training = run.read_manifest().config["verdict"]["training"]
    kind = find_hypothesis(name).kind if name else None
    if kind == "penalty":
        return f"λ = {training['penalty']:g}"
    return f"f = {training['fraction']:g} of the blocks" if kind == "blocks" else VARIANTS[variant]


def summary(runs: Path) -> Iterator[str]:
    """What the tables below say of the controls, the oracle, the refusal direction and the alignment subspace."""
    first = runs_of(runs, FIRST)
    for test in ("update", "ablation", "training"):
        rows = [
            row
            for variant in (VARIANTS if test == "training" else (FIRST,))
            for run in runs_of(runs, variant)
            for row in run.read_table("verdicts").filter(test=test).iter_rows(named=True)
        ]
        for construct in CONSTRUCTS:
            drawn, oracle = (
                [row["verdict"] for row in rows if (row["hypothesis"], row["construct"]) == (name, construct)]
                for name in ("random", "harmful-update")
            )
            told = [f"random subspaces {counted(drawn)}"] if drawn else []
            told += [f"the leading directions of the harmful update {counted(oracle)}"] if oracle else []
            yield f"- *{test}, {construct}*: {'; '.join(told)}.\n"
    [refusal] = [row for row in ablation_rows(first) if row[0] == "refusal-direction"]
    yield (
        f"- Aligned model without the refusal direction: refusal rate {refusal[1]}, general ability {refusal[2]}. "
        f"Without random directions: refusal rate {refusal[3]}, general ability {refusal[4]}.\n"
    )
    for variant, words in VARIANTS.items():
        known = runs_of(runs, variant)
        ends = {row[0]: row[2] for row in training_rows(known, variant)}
        if not known:
            continue
        yield (
            f"- Attack success after the contaminated training, {words}, seeds: {len(known)}. {ends['alignment']} with "
            f"alignment protected, {ends['random']} with a random subspace protected, "
            f"{ends['harmful-update']} with the oracle protected, {ends['unprotected']} unprotected.\n"
        )


def page(runs: Path) -> str:
    """The text of the page."""
    first = runs_of(runs, FIRST)
    verdict = ("claim or control", *(f"{one}: verdicts" for one in CONSTRUCTS), *OUTCOMES)
    controls = first[0].read_manifest().config["verdict"]["training"]["controls"]
    parts = [HEADER.format(seeds=len(first), controls=controls), *summary(runs)]
    parts.append(CLAIM_AND_TEST)
    for construct in CONSTRUCTS:
        parts += [
            f"\n{construct.capitalize()}:\n\n",
            table(("claim or control", *TESTS), [*claim_rows(first, construct)]),
        ]
    parts.append(
        "\nIn the tables below, a number is the mean over seeds. The lowest and the highest are in brackets. A "
        "*selective* verdict\nhas the direction of its number: below 0, utility or capability comes first, or "
        "protecting the claim does harm.\n"
    )
    parts += [
        "\n## Update: a finished fine-tune, projected\n\n"
        "D above 0: along the claim's directions, harm is gained and lost before utility.\n\n",
        table(verdict, list(verdict_rows(first, "update"))),
        "\n## Ablation: the aligned model without the claim's directions\n\n"
        "A above 0: more harm comes before capability is lost than without random directions of the same energy.\n\n",
        table(verdict, list(verdict_rows(first, "ablation"))),
        "\nThis table shows the largest ablation that keeps half of the capability, and the mean of its controls. The\n"
        "claims `alignment`, `safety`, `random-k` and `harmful-update`, and `random`, remove a part of Δ_A. Their\n"
        "largest ablation removes all of it, as that of their controls does: both are then the base model.\n\n",
        table(("claim", "refusal", "general", "refusal, controls", "general, controls"), list(ablation_rows(first))),
        "\n## Training: the contaminated fine-tuning, with the claim protected\n\n"
        "T above 0: there is less harm at the end than with random subspaces protected.\n\n",
    ]
    for variant, words in VARIANTS.items():
        known = runs_of(runs, variant)
        if known:
            parts += [f"{words}, seeds: {len(known)}.\n\n", table(verdict, list(verdict_rows(known, "training"))), "\n"]
    rows = [
        row for variant in VARIANTS for row in training_rows(runs_of(runs, variant), variant) if runs_of(runs, variant)
    ]
    parts += [
        "This table shows the end of each training. Claims with a side of their own keep it, whatever the second\n"
        "column says ([papers](papers.md)).\n\n",
        table(("protected", "strength", "attack success", "answer probability, harm", "utility"), rows),
    ]
    return "".join(parts)


def main() -> None:
    """Read the runs; write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/three-tests"))
    parser.add_argument("--only-looks", action="store_true", help="only the table of the second look")
    asked = parser.parse_args()
    runs = asked.runs
    header = ("claim", "strength", "T by harm", "T by refusal", "attack success, %", "random protected, %")
    header += ("unprotected, %", "clean, %", "utility, %", "utility, random protected, %")
    put(PAPERS, "looks", "three_tests_page.py", table(header, look_rows(runs)))
    if asked.only_looks:
        return
    write_text(PAGE, page(runs))
    put(PAPERS, "outcomes", "three_tests_page.py", table(("claim", *TESTS), outcome_rows(runs_of(runs, FIRST))))


if __name__ == "__main__":
    main()
