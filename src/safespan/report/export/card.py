"""Words for a model card and for the hub: what was tested, what was found, how far it holds, how to repeat it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from safespan.report.export.grids import Grid, grids
from safespan.report.export.shared import SHORTENED
from safespan.report.loaded import Run
from safespan.report.page import margin_of
from safespan.report.tables import judge_facts, no_answer_facts
from safespan.report.verdict import notes_beside
from safespan.results import frame_of
from safespan.results.claim_tables import ClaimVerdict
from safespan.results.tables import ProjectionRow

LEFT_OUT = (
    "Left out on purpose, as they can be harmful to read or to use: the texts of the prompts, what the models said, "
    "the training rows and the weights. Prompts are named by their number and SHA-256 in the manifest."
)
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|&~])")
_LIMITS = (
    "*Selective* means that the claim does more than its random controls, beyond the margin; *not selective* that it "
    "does what they do, within the margin; *inconclusive* and *not measurable* are no statement about it.",
    "A verdict is about these weights, these prompts, this test and this margin. The tests can differ on one claim.",
)


def card(run: Run) -> str:
    """A section of a model card, as Markdown."""
    parts = [
        "## Tests of claimed safety subspaces",
        f"Made by safespan {_version(run)} from the study “{plain(run.manifest.name)}”{_seeds(run)}.",
        "### What was tested",
        *_tested(run),
        "### What was found",
        plain(run.headline),
        *_found(run),
        "### How far it holds",
        _list(_limits(run)),
        "### How to repeat it",
        _list(_repeat(run)),
    ]
    return "\n\n".join(parts) + "\n"


def hub_card(run: Run, tables: Sequence[str]) -> str:
    """README.md of a data set of results on the hub.

    Args:
        run: the run.
        tables: names of the Parquet files in `data/`; the first is the one that the hub shows.
    """
    configs = [{"config_name": name, "data_files": f"data/{name}.parquet"} for name in tables]
    front: dict[str, Any] = {
        "pretty_name": f"{' '.join(run.manifest.name.split())}: tests of claimed safety subspaces",
        "tags": ["safespan", "ai-safety", "alignment", "evaluation-results"],
        "configs": [{**config, "default": True} if place == 0 else config for place, config in enumerate(configs)],
    }
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    holds = [
        "`data/`: every table as Parquet, one configuration each"
        + (", of all seeds, with a column `study_seed`" if run.seeds else ""),
        "`results/` and `manifest.json`, of several seeds in `seeds/N/`: the tables as CSV as the run wrote them, and "
        "the record of the run. `safespan.load_run` opens this folder.",
    ]
    parts = [f"# {plain(front['pretty_name'])}", _list(holds), LEFT_OUT]
    return f"---\n{header}---\n\n" + "\n\n".join(parts) + f"\n\n{card(run)}"


def plain(text: str) -> str:
    """Text as Markdown that shows it, in one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def markdown(grid: Grid) -> str:
    """A table as Markdown, with its caption below."""
    lines = [[plain(name) for name in grid.header], ["---"] * len(grid.header)]
    lines += [["<br>".join(plain(line) for line in cell if line) for cell in cells] for cells in grid.rows]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{rows}\n\n{plain(grid.caption)}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _version(run: Run) -> str:
    return plain(run.manifest.versions.get("safespan", "of an unknown version"))


def _seeds(run: Run) -> str:
    if run.seeds:
        return f", under the seeds {', '.join(map(str, run.seeds))}"
    return "" if run.manifest.seed is None else f", under seed {run.manifest.seed}"


def _tested(run: Run) -> Iterator[str]:
    claims: dict[str, list[str]] = {test: [] for test in run.tests}
    for verdict in run.verdicts:
        if verdict.group == "claim" and verdict.hypothesis not in claims[verdict.test]:
            claims[verdict.test].append(verdict.hypothesis)
    lines = [f"{test} test: {plain(', '.join(names)) or 'no claim'}" for test, names in claims.items()]
    asked = [
        f"{record.rows} {plain(name)} prompts"
        for name, record in run.manifest.prompts.items()
        if not name.startswith("trial ")
    ]
    if asked:
        lines.append(f"asked: {', '.join(asked)}")
    if lines:
        yield _list(lines)
    yield from (markdown(grid) for grid in grids(run) if grid.name == "finetunes")


def _found(run: Run) -> Iterator[str]:
    yield from (markdown(grid) for grid in grids(run) if grid.name != "finetunes")
    sentences = [
        f"{plain(verdict.words)} ({verdict.test} test, {verdict.construct})."
        for verdict in run.verdicts
        if isinstance(verdict, ClaimVerdict) and verdict.group == "claim" and verdict.verdict == "selective"
    ]
    if sentences:
        yield _list(sentences)


def _limits(run: Run) -> Iterator[str]:
    yield from (f"NOT complete: {plain(problem)}." for problem in run.problems)
    if run.verdicts:
        yield from _LIMITS
        margin, confidence = margin_of(run.manifest), _verdict(run).get("confidence")
        if margin is not None:
            yield f"Margin {margin:g}" + (
                f"; intervals hold for all claims of a test together at {confidence:.0%}."
                if isinstance(confidence, float)
                else "."
            )
    if run.seeds:
        yield f"The verdicts are about the recipe, over {len(run.seeds)} seeds."
    else:
        yield "One seed: how the verdict changes from one training to the next was not measured."
        yield from (f"{'Passed' if well else 'NOT passed'}: check of the {plain(text)}." for well, text in run.checks)
        if "models" in run.tables:
            models, points = run.table("models"), "projection" in run.tables
            projection = run.table("projection") if points else frame_of(ProjectionRow, [])
            yield from map(plain, judge_facts(models, projection))
            yield from map(plain, no_answer_facts(models))
    yield from map(plain, notes_beside(run.manifest, run.checks))


def _verdict(run: Run) -> Mapping[str, Any]:
    verdict = run.manifest.config.get("verdict")
    return verdict if isinstance(verdict, dict) else {}


def _repeat(run: Run) -> Iterator[str]:
    manifest = f"seeds/{next(iter(run.seeds))}/manifest.json" if run.seeds else "manifest.json"
    yield f"`safespan rerun {manifest} --out again` runs it again, and says what differs (versions, inputs, tables)."
    yield SHORTENED
    yield (
        "Inputs on the disk of the author have to be put into the working folder under these names first. The manifest "
        "has their SHA-256."
    )
    versions = ", ".join(f"{name} {version}" for name, version in run.manifest.versions.items())
    if versions:
        yield f"Made with {plain(versions)}."
