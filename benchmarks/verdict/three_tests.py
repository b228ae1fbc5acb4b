"""The three tests of a claim on several seeds of the embedded family (METHODS §7): update, ablation and training.

Each seed is one run of the demo's recipe, and one run for each further fraction and side of the training test, whose
models are those of the first. What stands in the run folders from before is not done again.
docs/pages/three_tests_page.py makes the page of them.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import yaml

from safespan.settings.study import StudyConfig, bundled_study
from safespan.study.run import run_study

SUBSPACES = ("alignment", "safety", "random-k", "random", "harmful-update", "refusal-directions", "actsvd")
UPDATE, ABLATION = (*SUBSPACES, "safelora"), (*SUBSPACES, "refusal-direction")
TRAINING = ("alignment", "harmful-update", "random")
VARIANTS = {"f0.5": (0.5, "output"), "f0.9": (0.9, "output"), "f0.5-both": (0.5, "both"), "f0.9-both": (0.9, "both")}
"""Name of a run -> fraction and side of its training test; the first one has the other tests too."""
CONTROLS = 5


def study_of(seed: int, variant: str, runs: Path) -> StudyConfig:
    """The study of one run."""
    study: dict[str, Any] = yaml.safe_load(bundled_study("organism").read_text(encoding="utf-8"))
    fraction, side = VARIANTS[variant]
    first = variant == next(iter(VARIANTS))
    training = {"hypotheses": list(TRAINING), "fraction": fraction, "side": side, "controls": CONTROLS}
    verdict = {
        "refusals": study["verdict"]["refusals"],
        "tests": ["update", "ablation", "training"] if first else ["training"],
        "hypotheses": list(UPDATE if first else TRAINING),
        "training": training,
        **({"ablation": {"hypotheses": list(ABLATION)}} if first else {}),
    }
    study |= {"name": f"Three tests, seed {seed}, {variant}", "seed": seed, "verdict": verdict}
    study |= {"projection": None, "overlap": None}
    if first:
        study["activations"] |= {"models": ["aligned"], "permutations": 0, "bootstraps": 0}
    else:
        own = folder_of(seed, next(iter(VARIANTS)), runs)
        models = {role: {"model": str(own / "checkpoints" / role)} for role in ("base", "aligned", "harmful")}
        study |= {"models": {**models, "contaminated": study["models"]["contaminated"]}, "activations": None}
        study = yaml.safe_load(yaml.safe_dump(study).replace("{run}", str(own.resolve()))) | {"data": None}
    return StudyConfig.model_validate(study)


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
