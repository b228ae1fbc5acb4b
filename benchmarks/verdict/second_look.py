"""Claims that the training test of their authors does not confirm, at other strengths: one seed of the embedded family.

The models are those of the first run of benchmarks/verdict/three_tests.py, which has to stand. Finished runs are not
done again. docs/pages/three_tests_page.py makes the table of them in docs/papers.md.
"""

import argparse
import logging
from pathlib import Path

from three_tests import CONTROLS, further

from safespan.settings.study import StudyConfig
from safespan.study.run import run_study

SEED = 0
LOOKS = {
    "asft": [{"penalty": value} for value in (0.1, 1.0, 10.0, 100.0, 1000.0)],
    "safety-layers": [{"fraction": share} for share in (0.34, 0.67)],
    "actsvd": [{"fraction": share} for share in (0.25, 0.5, 0.9)],
    "guardspace": [{"fraction": share} for share in (0.25, 0.5, 0.9)],
    "set-difference-neurons": [{"fraction": share} for share in (0.25, 0.5, 0.9)],
}
"""Claim -> the settings of the training test that it is put to."""


def looked_at(claim: str, setting: dict[str, float], runs: Path) -> tuple[StudyConfig, Path]:
    """The study of one claim under one setting, and its run folder."""
    [(field, value)] = setting.items()
    training = {"fraction": 0.5, "controls": CONTROLS, **setting}
    study = further(
        SEED, f"Second look at {claim}, {field} {value:g}", [claim], training, runs, prompts=claim != "asft"
    )
    return study, runs / f"look-{claim}-{field}{value:g}"


def main() -> None:
    """Read the options; run what does not stand yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/three-tests"))
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    for claim, settings in LOOKS.items():
        for setting in settings:
            study, folder = looked_at(claim, setting, asked.runs)
            run_study(study, folder, "python benchmarks/verdict/second_look.py")
            print(folder, flush=True)


if __name__ == "__main__":
    main()
