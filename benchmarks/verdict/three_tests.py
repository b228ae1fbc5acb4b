"""Every claim in every test that it has, on several seeds of the embedded family (METHODS §7).

Each seed is one run of the demo's recipe, and one run for each further fraction and side of the training test, whose
models are those of the first. What stands in the run folders from before is not done again.
docs/pages/three_tests_page.py makes the page of them.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from safespan.settings.names import HYPOTHESES, NAMED_ONLY
from safespan.settings.study import StudyConfig, bundled_study
from safespan.study.run import run_study

LEFT_OUT = ("planted", "safemerge-factors")
"""Claims about a planted family, and about fine-tunes that are adapters: the family has neither."""
CLAIMS = tuple(name for name in (*HYPOTHESES, *NAMED_ONLY) if name not in LEFT_OUT)
TRAINING = ("alignment", "harmful-update", "random")
"""Claims of the further runs of the training test."""
VARIANTS = {"f0.5": (0.5, "output"), "f0.9": (0.9, "output"), "f0.5-both": (0.5, "both"), "f0.9-both": (0.9, "both")}
"""Name of a run -> fraction and side of its training test; the first one has the other tests too."""
FIRST = next(iter(VARIANTS))
PROMPTS_ALONE = {"models": ["aligned"], "permutations": 0, "bootstraps": 0}
"""Settings of activations that claims read, and that are compared no further."""
CONTROLS = 5


def study_of(seed: int, variant: str, runs: Path) -> StudyConfig:
    """The study of one run."""
    fraction, side = VARIANTS[variant]
    training = {"fraction": fraction, "side": side, "controls": CONTROLS}
    if variant != FIRST:
        return further(seed, f"Three tests, {variant}", TRAINING, training, runs)
    study = _recipe(seed, f"Three tests, {variant}", ["update", "ablation", "training"], CLAIMS, training)
    study["activations"] |= PROMPTS_ALONE
    return StudyConfig.model_validate(study)


def further(
    seed: int, name: str, claims: Sequence[str], training: Mapping[str, object], runs: Path, prompts: bool = False
) -> StudyConfig:
    """A training test of some claims on the models of the first run of a seed.

    Args:
        seed: of the first run.
        name: of the study.
        claims: that are tested.
        training: settings of the training test.
        runs: the folder of the run folders.
        prompts: whether a claim reads activations.
    """
    own = folder_of(seed, FIRST, runs)
    study = _recipe(seed, name, ["training"], claims, training)
    models = {role: {"model": str(own / "checkpoints" / role)} for role in ("base", "aligned", "harmful")}
    study |= {"models": {**models, "contaminated": study["models"]["contaminated"]}}
    study["activations"] = study["activations"] | PROMPTS_ALONE if prompts else None
    study = yaml.safe_load(yaml.safe_dump(study).replace("{run}", str(own.resolve()))) | {"data": None}
    return StudyConfig.model_validate(study)


def _recipe(
    seed: int, name: str, tests: Sequence[str], claims: Sequence[str], training: Mapping[str, object]
) -> dict[str, Any]:
    study: dict[str, Any] = yaml.safe_load(bundled_study("organism").read_text(encoding="utf-8"))
    verdict = {
        "refusals": study["verdict"]["refusals"],
        "tests": tests,
        "hypotheses": list(claims),
        "training": dict(training),
    }
    return study | {"name": name, "seed": seed, "verdict": verdict, "projection": None, "overlap": None}


def folder_of(seed: int, variant: str, runs: Path) -> Path:
    """The run folder of one variant of one seed."""
    return runs / f"seed{seed}-{variant}"


def main() -> None:
    """Read the options; run what does not stand yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/three-tests"))
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    for seed in range(asked.seeds):
        for variant in VARIANTS:
            folder = folder_of(seed, variant, asked.runs)
            run_study(study_of(seed, variant, asked.runs), folder, "make three-tests")
            print(folder, flush=True)


if __name__ == "__main__":
    main()
