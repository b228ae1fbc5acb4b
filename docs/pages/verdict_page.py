"""Write docs/verdict-rates.md and its chart from the runs that `benchmarks/verdict/verdict_rates.py` made."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import polars as pl
import vl_convert
from scipy.stats import binomtest, t

from safespan.evaluation import Measured
from safespan.files.atomic import write_text
from safespan.projection import update_points
from safespan.results.claim_tables import UpdatePoint
from safespan.results.run_folder import RunFolder
from safespan.settings.verdict import VerdictConfig
from safespan.statistics.verdicts import VERDICTS
from safespan.study.evidence import OUTCOMES, Evidence, update_evidence
from safespan.study.verdicts import ClaimInTest, verdict_tables
from safespan.subspaces import find_hypothesis

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "verdict-rates.md"
CHART = DOCS / "verdict-rates" / "power.svg"
TEST = "update"
"""The test whose rates these are."""
PROMPTS, CONTROLS = (10, 20, 40, 70, 100), (5, 7, 10)

HEADER = """# How often the test is right

This is about the update test. A test that says "no safety subspace" must be able to say "here is one". Made by
`make verdict-rates`, on {seeds} seeds of the embedded family and of its planted sibling (`studies/planted.yaml`), whose
harmful update was trained inside a random half of each matrix's outputs (of no more directions than it has inputs) and
its useful update outside.

- *planted*: the half that the harm is in, on planted families. The test should call it selective.
- *oracle*: the leading singular vectors of the harmful update itself, on ordinary families. Likewise.
- *disguised random*: a Haar-random subspace, {draws} draws on each family of both kinds. The test should not.
- *alignment*: the paper's subspace, as it falls.

A hypothesis is called *selective* or *not selective* where both outcomes that vote say so, if they can be measured: the
probability of the forbidden answers, and complying against refusing at the first token. {prompts} prompts of each kind,
6 fractions, {controls} control draws (disguised: 5), 90 % intervals, margin 0.15, Holm-corrected within each run.

"""

POWER = """## Power

The same runs, had they asked fewer prompts or drawn fewer controls: right is *selective* for planted and oracle, *not
selective* for a random subspace (one draw on each family); wrong is the opposite, and the rest is undecided.

![right verdicts against prompts and controls]({chart})

"""


class Said(NamedTuple):
    """What one run says of one hypothesis under one outcome."""

    kind: str
    run: str
    outcome: str
    verdict: str
    d: float | None


def kind_of(family: str, hypothesis: str) -> str:
    """The name of a row of the table."""
    names = {"planted": "planted", "harmful-update": "oracle", "random": "disguised random"}
    return names.get(hypothesis, f"{hypothesis}, {family}")


def said(runs: Sequence[Path]) -> Iterator[Said]:
    """Every verdict of every run."""
    for folder in runs:
        run, family = RunFolder(folder), folder.name.partition("-")[0]
        for row in run.read_table("verdicts").filter(test=TEST).iter_rows(named=True):
            yield Said(kind_of(family, row["hypothesis"]), folder.name, "all", row["verdict"], None)
        for row in run.read_table("estimates").filter(test=TEST, statistic="D").iter_rows(named=True):
            kind = kind_of(family, row["hypothesis"])
            yield Said(kind, folder.name, row["outcome"], row["verdict"], row["estimate"])


def rates(every: Sequence[Said]) -> str:
    """How often each verdict was given, in per cent."""
    header = ["hypothesis", "outcome", "runs", *VERDICTS, "selective, 95 % interval"]
    lines = []
    for kind in dict.fromkeys(one.kind for one in every):
        for outcome in ("all", *OUTCOMES):
            here = [one.verdict for one in every if (one.kind, one.outcome) == (kind, outcome)]
            shares = [f"{100 * here.count(verdict) / len(here):.0f}" for verdict in VERDICTS]
            interval = binomtest(here.count("selective"), len(here)).proportion_ci(method="wilson")
            bounds = f"{100 * interval.low:.0f} – {100 * interval.high:.0f}"
            lines.append([f"**{kind}**" if outcome == "all" else "", outcome, str(len(here)), *shares, bounds])
    return table(header, lines)


def over_seeds(every: Sequence[Said]) -> str:
    """D over training seeds: its mean, a 90 % t-interval of the mean, and its range."""
    lines = []
    for kind in dict.fromkeys(one.kind for one in every):
        for outcome in OUTCOMES:
            ds = pl.Series([one.d for one in every if (one.kind, one.outcome) == (kind, outcome) and one.d is not None])
            half = t.ppf(0.95, len(ds) - 1) * ds.std() / len(ds) ** 0.5
            cells = [f"{value:+.2f}" for value in (ds.mean(), ds.mean() - half, ds.mean() + half, ds.min(), ds.max())]
            lines.append(
                [kind, outcome, str(len(ds)), cells[0], f"{cells[1]} – {cells[2]}", f"{cells[3]} – {cells[4]}"]
            )
    return table(["hypothesis", "outcome", "runs", "mean D", "90 % of the mean", "range"], lines)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    whole = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in whole) + "\n"


def measured(folder: Path, prompts: int) -> dict[str, Measured]:
    """What was measured of every point of a run, cut to its first prompts."""
    points = {}
    for path in sorted((folder / "results" / "points" / TEST).glob("*.json")):
        scored = Measured(**json.loads(path.read_text(encoding="utf-8"))["scored"])
        per_prompt = {name: values[:prompts] for name, values in scored.per_prompt.items()}
        points[path.stem] = replace(scored, per_prompt=per_prompt)
    return points


def again(folder: Path, prompts: int, controls: int) -> Iterator[tuple[str, str | None]]:
    """(kind, verdict) of a run, had it asked fewer prompts and drawn fewer controls."""
    run = RunFolder(folder)
    config = run.read_manifest().config
    asked = VerdictConfig.model_validate({**config["verdict"], "prompts": prompts, "controls": controls})
    known = measured(folder, prompts)

    def evidence(points: Sequence[UpdatePoint], outcome: str) -> Evidence:
        return update_evidence(asked, points, known, outcome, config["seed"])

    tested = []
    for hypothesis in map(find_hypothesis, run.read_table("estimates").filter(test=TEST)["hypothesis"].unique()):
        points = update_points(hypothesis, ["contaminated"], asked.fractions, controls)
        tested.append(ClaimInTest(hypothesis.name, hypothesis.kind, TEST, None, partial(evidence, points)))
    verdicts, _ = verdict_tables(asked, tested)
    for row in verdicts:
        yield kind_of(folder.name.partition("-")[0], row.hypothesis), row.verdict


def power(families: Sequence[Path], disguised: Sequence[Path]) -> list[dict[str, Any]]:
    """Share of runs with the right verdict, by numbers of prompts and controls."""
    rows = []
    for prompts, controls in [*((n, 5) for n in PROMPTS), *((100, r) for r in CONTROLS[1:])]:
        here = [pair for folder in families for pair in again(folder, prompts, controls)]
        if controls == 5:
            here += [pair for folder in disguised for pair in again(folder, prompts, controls)]
        for kind in ("planted", "oracle", "disguised random"):
            verdicts = [verdict for one, verdict in here if one == kind]
            right = "not selective" if kind == "disguised random" else "selective"
            if verdicts:
                share = verdicts.count(right) / len(verdicts)
                rows.append({"hypothesis": kind, "prompts": prompts, "controls": controls, "right": share,
                             "wrong": _wrong(kind, verdicts) / len(verdicts), "runs": len(verdicts)})  # fmt: skip
    return rows


def _wrong(kind: str, verdicts: Sequence[str | None]) -> int:
    return verdicts.count("selective" if kind == "disguised random" else "not selective")


def draw(rows: list[dict[str, Any]]) -> None:
    """Two panels: the share of right verdicts against prompts, and against controls."""
    data = pl.DataFrame(rows)
    y = alt.Y("right:Q", title="right verdicts", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("hypothesis:N", title=None, legend=alt.Legend(orient="top"))
    panels = [
        alt.Chart(data.filter(keep)).mark_line(point=True).encode(x=alt.X(f"{x}:Q", title=title), y=y, color=colour)
        for keep, x, title in (
            (pl.col("controls") == 5, "prompts", "prompts of each kind (5 controls)"),
            (pl.col("prompts") == 100, "controls", "control draws (100 prompts)"),
        )
    ]
    chart = alt.hconcat(*(panel.properties(width=280, height=200) for panel in panels))
    write_text(CHART, vl_convert.vegalite_to_svg(chart.to_dict()))


def write_page(runs: Path) -> None:
    """Read every run in a folder and write the page."""
    folders = sorted(path for path in runs.iterdir() if (path / "results" / "verdicts.csv").exists())
    disguised = [path for path in folders if "-random-" in path.name]
    families = [path for path in folders if path not in disguised]
    every = list(said(folders))
    order = ("planted", "oracle", "disguised random")
    every.sort(key=lambda one: order.index(one.kind) if one.kind in order else len(order))
    rows = power(families, [path for path in disguised if path.name.endswith("-0")])
    draw(rows)
    columns = ("hypothesis", "prompts", "controls", "runs")
    lines = [[*(str(r[name]) for name in columns), _percent(r["right"]), _percent(r["wrong"])] for r in rows]
    draws = len(disguised) // max(1, len(families))
    parts = [
        HEADER.format(seeds=len(families) // 2, draws=draws, prompts=100, controls=10),
        "## Rates, in per cent\n\n",
        rates(every),
        "## D over seeds\n\n",
        over_seeds(every),
        POWER.format(chart=CHART.relative_to(DOCS)),
        table(["hypothesis", "prompts", "controls", "runs", "right, %", "wrong, %"], lines),
        conclusions(),
    ]
    write_text(PAGE, "".join(parts))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def conclusions() -> str:
    """What was concluded from these tables; written by hand, and kept when the page is made again."""
    mark = "## What this shows\n"
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return mark + text.partition(mark)[2]


def main() -> None:
    """Read the runs; write the page and its chart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/verdict-rates"), help="folder of the runs")
    write_page(parser.parse_args().runs)


if __name__ == "__main__":
    main()
