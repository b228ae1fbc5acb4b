"""How often the test of safety subspaces is right: planted, oracle and disguised-random hypotheses over many seeds.

Grows an ordinary and a planted family for each seed, and tests hypotheses on both. What stands in the run
folders from before is not done again. docs/pages/verdict_page.py makes the page of them.
"""

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from safespan.settings.study import StudyConfig, bundled_study
from safespan.study.run import run_study

CONTROLS = 10
"""Of planted and oracle hypotheses, so that power can be read for fewer; those in disguise have the study's own 5."""


class Trial(NamedTuple):
    """One run of the test: of a family, or of one draw of a random subspace in disguise on that family."""

    family: str
    seed: int
    draw: int | None

    def folder(self, runs: Path) -> Path:
        return runs / f"{self.family}-{self.seed}{'' if self.draw is None else f'-random-{self.draw}'}"


def study_of(trial: Trial, runs: Path) -> StudyConfig:
    """The study of one trial; families of one seed share base and aligned model."""
    ordinary = yaml.safe_load(bundled_study("organism").read_text())
    ordinary["verdict"] = {"refusals": ordinary["verdict"]["refusals"], "tests": ["update"]}
    planted = yaml.safe_load(bundled_study("planted").read_text())
    study: dict[str, Any] = {**ordinary, "projection": None, "overlap": None, "activations": None, "seed": trial.seed}
    models = {role: ordinary["models"][role] for role in ("base", "aligned", "harmful", "contaminated")}
    if trial.family == "planted":
        for role in ("base", "aligned"):
            models[role] = {"model": str(Trial("ordinary", trial.seed, None).folder(runs) / "checkpoints" / role)}
        for role in ("harmful", "contaminated"):
            over = planted["models"][role]
            train = {**models[role]["train"], **over["train"]}
            models[role] = {"start": over.get("start", models[role]["start"]), "train": train}
    hypotheses = ["planted" if trial.family == "planted" else "harmful-update", "alignment"]
    verdict = {**ordinary["verdict"], "hypotheses": hypotheses, "controls": CONTROLS}
    if trial.draw is not None:
        checkpoints = trial._replace(draw=None).folder(runs) / "checkpoints"
        models = {role: {"model": str(place_of(role, checkpoints, trial, runs))} for role in models}
        verdict = {**ordinary["verdict"], "hypotheses": ["random"]}
        study["seed"] = 1_000 * (trial.draw + 1) + trial.seed
    return StudyConfig.model_validate({**study, "models": models, "verdict": verdict})


def place_of(role: str, checkpoints: Path, trial: Trial, runs: Path) -> Path:
    own = checkpoints / role
    return own if own.exists() else Trial("ordinary", trial.seed, None).folder(runs) / "checkpoints" / role


def run(trials: tuple[Trial, Path]) -> str:
    """Run one trial in a process of its own."""
    trial, runs = trials
    logging.disable(logging.WARNING)
    run_study(study_of(trial, runs), trial.folder(runs), "make verdict-rates")
    return trial.folder(runs).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/verdict-rates"))
    asked = parser.parse_args()
    families = ("ordinary", "planted")
    stages = [[Trial(family, seed, None) for seed in range(asked.seeds)] for family in families]
    stages.append([Trial(f, s, d) for f in families for s in range(asked.seeds) for d in range(asked.draws)])
    with ProcessPoolExecutor(asked.processes) as pool:
        for trials in stages:
            for name in pool.map(run, [(trial, asked.runs) for trial in trials]):
                print(name, flush=True)


if __name__ == "__main__":
    main()
