"""Every claim in every test that it has, on several seeds of the embedded family (METHODS §7).

Each seed is one run of the demo's recipe, and one run for each further fraction and side of the training test, whose
models are those of the first. What stands in the run folders from before is not done again.
docs/pages/three_tests_page.py makes the page of them.
"""

import argparse
import logging
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
CONTROLS = 5


def study_of(seed: int, variant: str, runs: Path) -> StudyConfig:
    """The study of one run."""
    study: dict[str, Any] = yaml.safe_load(bundled_study("organism").read_text(encoding="utf-8"))
    fraction, side = VARIANTS[variant]
    first = variant == next(iter(VARIANTS))
    training = {"fraction": fraction, "side": side, "controls": CONTROLS}
    verdict = {
        "refusals": study["verdict"]["refusals"],
        "tests": ["update", "ablation", "training"] if first else ["training"],
        "hypotheses": list(CLAIMS if first else TRAINING),
        "training": training,
    }
    study |= {"name": f"Three tests, {variant}", "seed": seed, "verdict": verdict}
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
