"""Write docs/verdict-rates.md from the runs that `benchmarks/verdict/verdict_rates.py` made."""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import polars as pl
from markdown_tables import table
from scipy.stats import binomtest

from safespan.evaluation import Measured
from safespan.files.atomic import write_text
from safespan.projection import update_points
from safespan.report.pooled import pooled_rows
from safespan.results.run_folder import RunFolder
from safespan.settings.verdict import VerdictConfig
from safespan.statistics.effects import Effect
from safespan.statistics.verdicts import CONSTRUCTS, NOT_SELECTIVE, SELECTIVE, VERDICTS
from safespan.study.evidence import OUTCOMES, update_evidence
from safespan.subspaces import find_hypothesis

PAGE = Path(__file__).parents[1] / "verdict-rates.md"
MARGINS = (0.05, 0.10, 0.15, 0.20, 0.25)
RESAMPLES, ERROR_RESAMPLES = 1000, 200
"""Simulated runs of the coverage, and resamples of prompts for the standard error of each."""
PRIMARY = {outcome.construct: name for name, outcome in OUTCOMES.items() if outcome.votes}
TRUE = ("planted", "oracle")

HEADER = """# How often the test is right

A test that can say "no safety subspace" must also be able to say "here is one". This page shows how often the update
test is right, and how its margin was chosen. `make verdict-rates` makes it, on {seeds} seeds of two families:

- The *ordinary* family is the embedded family.
- The *planted* family (`studies/planted.yaml`) has a known safety subspace. Its harmful update was trained inside a
  random half of each matrix's outputs (with at most as many directions as the matrix has inputs). Its useful update was
  trained outside.

Four hypotheses are tested:

- *planted*: the half that contains the harm, on planted families. The test should call it selective.
- *oracle*: the leading singular vectors of the harmful update itself, on ordinary families. The test should call it
  selective.
- *random*: a Haar-random subspace on each family of both kinds, with one draw in the run of the family and {draws} in
  separate runs. The test should call it not selective.
- *alignment*: the paper's subspace. No verdict is expected beforehand.

The settings are the defaults of every study: at most three looks, 8 draws of controls (5, 8 and 12 at the looks), 100
prompts of each kind, 6 fractions, a margin of {margin:g} and 90 % intervals. Each construct is judged by its primary
measure. The [methods](methods.md#7-the-verdict) define D, the margin and the verdicts.

"""


class Run(NamedTuple):
    """One run folder, by what its name says."""

    family: str
    seed: int
    kind: str
    folder: RunFolder

    @property
    def is_other(self) -> bool:
        """Whether it is of the seeds that no rate is of."""
        return self.seed >= 100


def runs_in(root: Path) -> list[Run]:
    """Every finished run."""
    runs = []
    for path in sorted(root.iterdir()):
        match = re.fullmatch(r"(ordinary|planted)-(\d+)(?:-(random|brute))?(?:-\d+)?", path.name)
        if match and (path / "results" / "verdicts.csv").exists():
            runs.append(Run(match[1], int(match[2]), match[3] or "", RunFolder(path)))
    return runs


def kind_of(run: Run, hypothesis: str) -> str:
    """The name of a row of the tables."""
    names = {"planted": "planted", "harmful-update": "oracle", "random": "random"}
    return names.get(hypothesis, f"{hypothesis}, {run.family}")


class Judged(NamedTuple):
    """What one run says of one hypothesis in one construct."""

    kind: str
    construct: str
    verdict: str
    d: float | None


def judged(runs: Sequence[Run]) -> Iterator[Judged]:
    """Every verdict of every run."""
    for run in runs:
        deciding = run.folder.read_table("estimates").filter("decides", "votes", test="update")
        values = {(row["hypothesis"], row["construct"]): row["estimate"] for row in deciding.rows(named=True)}
        for row in run.folder.read_table("verdicts").filter(test="update").rows(named=True):
            place = row["hypothesis"], row["construct"]
            yield Judged(kind_of(run, row["hypothesis"]), row["construct"], row["verdict"], values.get(place))


def kinds_of(every: Sequence[Judged]) -> list[str]:
    """Kinds in the order of the page."""
    order = ("planted", "oracle", "random")
    kinds = dict.fromkeys(one.kind for one in every)
    return sorted(kinds, key=lambda kind: order.index(kind) if kind in order else len(order))


def rates(every: Sequence[Judged]) -> str:
    """How often each verdict was given, in per cent."""
    lines = []
    for kind in kinds_of(every):
        for construct in CONSTRUCTS:
            here = [one.verdict for one in every if (one.kind, one.construct) == (kind, construct)]
            shares = [f"{100 * here.count(verdict) / len(here):.0f}" for verdict in VERDICTS]
            interval = binomtest(here.count(SELECTIVE), len(here)).proportion_ci(method="wilson")
            bounds = f"{100 * interval.low:.0f} – {100 * interval.high:.0f}"
            lines.append([f"**{kind}**", construct, len(here), *shares, bounds])
    return table(["hypothesis", "construct", "runs", *VERDICTS, "selective, 95 % interval"], lines)


def over_seeds(every: Sequence[Judged]) -> str:
    """D over runs: its mean, standard deviation and range."""
    lines = []
    for kind in kinds_of(every):
        for construct in CONSTRUCTS:
            values = [one.d for one in every if (one.kind, one.construct) == (kind, construct) and one.d is not None]
            if len(values) > 1:
                cells = f"{fmean(values):+.2f}", f"{np.std(values, ddof=1):.3f}"
                lines.append([kind, construct, len(values), *cells, f"{min(values):+.2f} – {max(values):+.2f}"])
    return table(["hypothesis", "construct", "runs", "mean D", "sd", "range"], lines)


def margins(runs: Sequence[Run]) -> str:
    """On the seeds that no rate is of: how often the right verdict is reached by margin, at the last look's data."""
    lines = []
    found = [(kind, row) for run in runs for kind, row in _deciding(run)]
    for margin in MARGINS:
        cells = []
        for kind in (*TRUE, "random"):
            right = NOT_SELECTIVE if kind == "random" else SELECTIVE
            own = [_by_margin(row, margin) == right for one, row in found if one == kind]
            cells.append(f"{fmean(own):.2f}" if own else "–")
        lines.append([f"{margin:g}", *cells])
    return table(["margin", *TRUE, "random"], lines)


def _deciding(run: Run) -> Iterator[tuple[str, dict[str, float]]]:
    rows = run.folder.read_table("estimates").filter("decides", test="update", outcome=PRIMARY["harm"])
    yield from ((kind_of(run, row["hypothesis"]), row) for row in rows.drop_nulls("estimate").rows(named=True))


def _by_margin(row: dict[str, float], margin: float) -> str:
    """The verdict on one claim alone from the figures of its row, under another margin."""
    from scipy.stats import t

    size, error, freedom = abs(row["estimate"]), row["error"], row["freedom"]
    level = 0.05 / 3
    if size + t.isf(level, freedom) * error < margin:
        return NOT_SELECTIVE
    return SELECTIVE if max(row["p_null"], t.sf((size - margin) / error, freedom)) < level else ""


def coverage(runs: Sequence[Run]) -> str:
    """How often the 90 % interval of a simulated run covers D of all prompts and all controls."""
    lines = []
    for run in runs:
        config = run.folder.read_manifest().config
        settings = VerdictConfig.model_validate({**config["verdict"], "resamples": 100})
        known = _records(run.folder, ("aligned", "contaminated"))
        for name in ("harmful-update", "alignment", "random"):
            points = update_points(find_hypothesis(name), ["contaminated"], settings.fractions, settings.controls)
            for construct, outcome in PRIMARY.items():
                found = update_evidence(settings, points, known, outcome, 0)
                if not found.effects:
                    continue
                truth, covered = found.effects[-1].value, 0
                generator = np.random.default_rng(run.seed)
                for _ in range(RESAMPLES):
                    effect = _simulated(settings, points, known, outcome, generator)
                    covered += abs(effect.value - truth) <= effect.half_width(0.05)
                share = f"{100 * covered / RESAMPLES:.1f}"
                lines.append([f"{run.family} {run.seed}", name, construct, f"{truth:+.2f}", share])
    return table(["family", "hypothesis", "construct", "D", "covered, %"], lines)


def _records(folder: RunFolder, models: Sequence[str]) -> dict[str, Measured]:
    """What was measured of the models and of every point, on all prompts."""
    places = folder.root / "results" / "points" / "update"
    files = [*(places / "models" / f"{name}.json" for name in models), *places.glob("*-*/*.json")]
    return {file.stem: Measured(**json.loads(file.read_text(encoding="utf-8"))["scored"]) for file in files}


def _simulated(
    settings: VerdictConfig,
    points: Sequence[object],
    known: dict[str, Measured],
    outcome: str,
    generator: np.random.Generator,
    prompts: int = 100,
    controls: int = 8,
) -> Effect:
    """D of a run that draws prompts and controls anew, with replacement, from those of a brute-force run."""
    chosen = OUTCOMES[outcome]
    sizes = {name: len(known["aligned"].per_prompt[name]) for name in (chosen.useful, chosen.harmful)}
    rows = {name: generator.integers(size, size=prompts) for name, size in sizes.items()}
    draws = generator.integers(settings.controls, size=controls)
    names = {"aligned": "aligned", "contaminated": "contaminated"}
    kept = []
    for point in points:
        if point.draw is None:
            kept.append(point)
            names[point.name] = point.name
    for number, draw in enumerate(draws):
        for point in points:
            if point.draw == draw:
                moved = replace(point, draw=number)
                kept.append(moved)
                names[moved.name] = point.name
    measured = {
        name: Measured({m: [known[of].per_prompt[m][row] for row in rows[m]] for m in rows})
        for name, of in names.items()
    }
    fewer = settings.model_copy(update={"resamples": ERROR_RESAMPLES})
    return update_evidence(fewer, kept, measured, outcome, int(generator.integers(2**31))).effects[-1]


def asked(runs: Sequence[Run]) -> str:
    """Prompts asked until decided, beside the fixed design of 8 draws and 100 prompts, by kind of hypothesis."""
    shares: dict[str, list[float]] = {}
    for run in runs:
        points = run.folder.read_table("update")
        for name in points["hypothesis"].unique(maintain_order=True):
            own = points.filter(hypothesis=name)
            fixed = own.filter(pl.col("draw").is_null()).height * 9 * 100
            shares.setdefault(kind_of(run, name), []).append(own["prompts"].sum() / fixed)
    rows = [[kind, len(values), f"{100 * fmean(values):.0f}"] for kind, values in shares.items()]
    return table(["hypothesis", "runs", "asked, % of the fixed design"], rows)


def pooled(runs: Sequence[Run]) -> str:
    """Verdicts on the recipe of the ordinary family, over all its seeds; planted runs name their models by folder."""
    lines = []
    for row in pooled_rows([run.folder for run in runs if run.family == "ordinary"]):
        if row.votes:
            interval = f"{row.estimate:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
            verdict = f"{row.verdict}, {row.direction}" if row.direction else row.verdict
            cells = row.hypothesis, row.construct, row.seeds, interval, f"{row.sd:.3f}", f"{row.tau:.3f}", verdict
            lines.append([*cells])
    return table(["hypothesis", "construct", "seeds", "D", "sd", "τ", "verdict"], lines)


def agreement(every: Sequence[Judged]) -> str:
    """How many runs give the most frequent verdict on alignment."""
    lines = []
    for kind in kinds_of(every):
        for construct in CONSTRUCTS if kind.startswith("alignment") else ():
            here = [one.verdict for one in every if (one.kind, one.construct) == (kind, construct)]
            most = max(set(here), key=here.count)
            lines.append([kind, construct, len(here), most, here.count(most)])
    return table(["hypothesis", "construct", "runs", "most frequent verdict", "runs with it"], lines)


def with_oracle(runs: Sequence[Run]) -> str:
    """How D of alignment goes with that of the oracle over the ordinary families, in one sentence."""
    pairs = []
    for run in runs:
        found = {kind: row["estimate"] for kind, row in _deciding(run)}
        if {"oracle", "alignment, ordinary"} <= found.keys():
            pairs.append((found["oracle"], found["alignment, ordinary"]))
    oracle, alignment = np.array(pairs).T
    return (
        f"On harm, D of alignment and D of the oracle have a correlation of {np.corrcoef(oracle, alignment)[0, 1]:.2f} "
        f"over {len(pairs)} seeds. The mean of the ratio of alignment's D to the oracle's is "
        f"{fmean(alignment / oracle):.2f} (sd {np.std(alignment / oracle, ddof=1):.2f}).\n"
    )


def write_page(root: Path) -> None:
    """Read every run in a folder and write the page."""
    runs = runs_in(root)
    rated = [run for run in runs if not run.is_other]
    families = [run for run in rated if not run.kind]
    every = list(judged(rated))
    margin = families[0].folder.read_manifest().config["verdict"]["margin"]
    draws = len([run for run in rated if run.kind == "random"]) // max(1, len(families))
    others = [run for run in runs if run.is_other and run.kind != "brute" and run.seed < 200]
    brute = [run for run in runs if run.kind == "brute"]
    many = brute[0].folder.read_manifest().config["verdict"]["controls"] if brute else 0
    parts = [
        HEADER.format(seeds=len(families) // 2, draws=draws, margin=margin),
        "## Rates, in per cent\n\n",
        rates(every),
        "\n## D over runs\n\n",
        over_seeds(every),
        "\n## One run, and the recipe\n\nThis table shows how many seeds give alignment the same verdict:\n\n",
        agreement(every),
        "\nThis table shows the verdicts on the recipe of the ordinary family, over all its seeds. τ is the standard "
        "deviation between seeds, without what the errors within seeds explain:\n\n",
        pooled(families),
        "\n",
        with_oracle(families),
        "\n## The margin\n\nThis table shows the share of right verdicts on harm, by margin. Right is *selective* for "
        f"planted and oracle, and *not selective* for a random subspace. The {len({run.seed for run in others})} seeds "
        "are not in the tables above.\n\n",
        margins(others),
        "\n## Coverage of the intervals\n\n"
        f"{len(brute)} families were measured with {many} draws of controls of each hypothesis and all prompts. "
        f"Each of {RESAMPLES} simulated runs draws 100 prompts of each kind and 8 controls from these, with "
        "replacement. In 90 % of the simulated runs, the 90 % interval should cover the D of all prompts and all "
        "controls.\n\n",
        coverage(brute),
        "\n## What was asked\n\n"
        "The fixed design asks 100 prompts of each kind, with 8 draws of controls, in one look:\n\n",
        asked(rated),
        "\n",
        conclusions(),
    ]
    write_text(PAGE, "".join(parts))


def conclusions() -> str:
    """What was concluded from these tables; written by hand, and kept when the page is made again."""
    mark = "## What this shows\n"
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return mark + text.partition(mark)[2]


def main() -> None:
    """Read the runs; write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/verdict-rates"), help="folder of the runs")
    write_page(parser.parse_args().runs)


if __name__ == "__main__":
    main()
