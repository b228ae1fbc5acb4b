"""How often the update test is right: planted, oracle and random subspaces over many seeds of the embedded family.

For each seed it grows an ordinary and a planted family and tests claims on both. Random subspaces are tested on both
under further draws. Other seeds are for the choice of the margin, and three families are asked all prompts with many
controls, for the coverage of the intervals. What stands in the run folders from before is not done again.
docs/pages/verdict_page.py makes the page.
"""

import argparse
import logging
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from safespan.settings.study import StudyConfig, bundled_study
from safespan.study.run import run_study

SEEDS, DRAWS = 20, 5
"""Seeds of the rates, and draws of random subspaces on each family."""
MARGIN_SEEDS = range(100, 105)
"""Seeds that the margin was chosen on, and that no rate is of."""
BRUTE_SEEDS, BRUTE_CONTROLS, BRUTE_PROMPTS = range(200, 203), 50, 300
"""Families for the coverage: draws of controls of every claim, and prompts of each kind, which are all there are."""
ORDINARY, PLANTED, RANDOM, BRUTE = "ordinary", "planted", "random", "brute"


class Trial(NamedTuple):
    """One run: of a family, of a random subspace on that family (with the number of its draw), or for the coverage."""

    family: str
    seed: int
    kind: str = ""
    draw: int = 0

    def folder(self, runs: Path) -> Path:
        """Its run folder."""
        draw = f"-{self.draw}" if self.kind == RANDOM else ""
        return runs / f"{self.family}-{self.seed}{f'-{self.kind}' if self.kind else ''}{draw}"


def study_of(trial: Trial, runs: Path) -> StudyConfig:
    """The study of one trial; families of one seed share base and aligned model."""
    ordinary = yaml.safe_load(bundled_study("organism").read_text(encoding="utf-8"))
    planted = yaml.safe_load(bundled_study("planted").read_text(encoding="utf-8"))
    study: dict[str, Any] = {**ordinary, "projection": None, "overlap": None, "activations": None, "seed": trial.seed}
    models = {role: ordinary["models"][role] for role in ("base", "aligned", "harmful", "contaminated")}
    if trial.family == PLANTED:
        for role in ("base", "aligned"):
            models[role] = {"model": str(Trial(ORDINARY, trial.seed).folder(runs) / "checkpoints" / role)}
        for role in ("harmful", "contaminated"):
            over = planted["models"][role]
            train = {**models[role]["train"], **over["train"]}
            models[role] = {"start": over.get("start", models[role]["start"]), "train": train}
    # The primary measures are likelihoods: what is generated would have no vote.
    verdict = {"refusals": ordinary["verdict"]["refusals"], "tests": ["update"], "generate": False}
    verdict["hypotheses"] = ["planted" if trial.family == PLANTED else "harmful-update", "alignment", "random"]
    if trial.kind:
        models = {role: {"model": str(place_of(role, trial, runs))} for role in models}
    if trial.kind == RANDOM:
        verdict["hypotheses"] = ["random"]
        study["seed"] = 1_000 * (trial.draw + 1) + trial.seed
    if trial.kind == BRUTE:
        verdict |= {"controls": BRUTE_CONTROLS, "prompts": BRUTE_PROMPTS, "until_decided": False}
    return StudyConfig.model_validate({**study, "models": models, "verdict": verdict})


def place_of(role: str, trial: Trial, runs: Path) -> Path:
    """Where a model of the trial's family is."""
    own = Trial(trial.family, trial.seed).folder(runs) / "checkpoints" / role
    return own if own.exists() else Trial(ORDINARY, trial.seed).folder(runs) / "checkpoints" / role


def run(trials: tuple[Trial, Path]) -> str:
    """Run one trial in a process of its own."""
    trial, runs = trials
    logging.disable(logging.WARNING)
    run_study(study_of(trial, runs), trial.folder(runs), "make verdict-rates")
    return trial.folder(runs).name


def stages_of(seeds: int, draws: int) -> list[list[Trial]]:
    """All trials; each stage needs the models of those before it."""
    families = [*range(seeds), *MARGIN_SEEDS]
    return [
        [Trial(ORDINARY, seed) for seed in (*families, *BRUTE_SEEDS)],
        [Trial(PLANTED, seed) for seed in families],
        [
            Trial(family, seed, RANDOM, draw)
            for family in (ORDINARY, PLANTED)
            for seed in families
            for draw in range(draws)
        ],
        [Trial(ORDINARY, seed, BRUTE) for seed in BRUTE_SEEDS],
    ]


def main() -> None:
    """Read the options; run what does not stand yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/verdict-rates"))
    asked = parser.parse_args()
    begun = time.monotonic()
    with ProcessPoolExecutor(asked.processes) as pool:
        for trials in stages_of(asked.seeds, asked.draws):
            for name in pool.map(run, [(trial, asked.runs) for trial in trials]):
                print(f"{name}, {(time.monotonic() - begun) / 3600:.2f} hours", flush=True)


if __name__ == "__main__":
    main()
