"""What looking until decided costs and finds beside one look, on simulated claims.

A family has one claim of a given D and eleven claims of D = 0. Each has control draws of its own with standard
deviation s, and errors from the choice of prompts. The judgement is safespan's own; only what is measured is simulated.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from safespan.settings import VerdictConfig
from safespan.settings.verdict import Look, looks_of
from safespan.statistics.effects import SEPARATION, Effect
from safespan.statistics.verdicts import CLAIM, INCONCLUSIVE, NOT_SELECTIVE, SELECTIVE
from safespan.study import verdicts
from safespan.study.evidence import NOT_MEASURED, Evidence

VALUES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.33)
SPREADS = (0.03, 0.06)
PROMPT_ERROR = 0.0116
"""Standard error of D from 100 prompts of each kind, as in the demo."""
TESTED, OTHERS = "tested", 11


@dataclass(frozen=True)
class Simulated:
    """What will be measured of one claim.

    Attributes:
        value: its true D.
        controls: [R] areas of its control draws.
        noise: [N] errors of D, one a prompt.
    """

    value: float
    controls: np.ndarray
    noise: np.ndarray

    def at(self, look: Look) -> Evidence:
        """What there is at a look."""
        own = self.value + float(self.noise[: look.prompts].mean())
        error = PROMPT_ERROR * np.sqrt(100 / look.prompts)
        resampled = own + error * np.array([-1.0, 1.0]) / np.sqrt(2)
        return Evidence(effects=[Effect(SEPARATION, "", own, self.controls[: look.controls], resampled, look.prompts)])


def one_family(settings: VerdictConfig, value: float, spread: float, seed: int) -> tuple[str, float]:
    """The verdict on the tested claim, and what it cost: prompts times sets of weights, of the fixed design's."""
    generator, looks = np.random.default_rng(seed), looks_of(settings, settings.prompts)
    names = [TESTED, *(f"other {number}" for number in range(OTHERS))]
    claims = {
        name: Simulated(
            value if name == TESTED else 0.0,
            generator.normal(0, spread, 12),
            generator.normal(0, 10 * PROMPT_ERROR, 100),
        )
        for name in names
    }
    last = looks[0]

    def evidence_at(asked: Sequence[str], look: Look) -> Callable[[str, str], Evidence]:
        nonlocal last
        last = look if TESTED in asked else last
        return lambda name, outcome: claims[name].at(look) if outcome == "answer probability" else NOT_MEASURED

    in_test = [verdicts.ClaimInTest(name, "simulated", CLAIM) for name in names]
    judgement = verdicts.judged_by_looks(settings, "update", in_test, looks, evidence_at)
    [found] = [row.verdict for row in judgement.verdicts() if (row.hypothesis, row.construct) == (TESTED, "harm")]
    return found, (1 + last.controls) * last.prompts / ((1 + settings.controls) * settings.prompts)


def designs() -> Iterator[tuple[str, VerdictConfig, float]]:
    """Name, settings, and the least chance to be decided for which a claim is asked again."""
    yield "one look", VerdictConfig(until_decided=False), 0.0
    for chance in (1e-9, 0.1, 0.25, 0.5):  # above 0, which is that of a claim that is decided
        yield f"until decided, chance at least {chance:.2f}", VerdictConfig(), chance


def main() -> None:
    """Print a line for each D, spread and design."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=300, help="simulated for each line")
    families = parser.parse_args().families
    print(f"{'s':>5} {'D':>5}  {'design':38} {SELECTIVE:>14} {NOT_SELECTIVE:>14} {INCONCLUSIVE:>14}  cost")
    for spread in SPREADS:
        for value in VALUES:
            for name, settings, verdicts.LEAST_CHANCE in designs():
                results = [one_family(settings, value, spread, seed) for seed in range(families)]
                found = [verdict for verdict, _ in results]
                shares = "".join(f"{found.count(v) / families:15.2f}" for v in (SELECTIVE, NOT_SELECTIVE, INCONCLUSIVE))
                cost = float(np.mean([cost for _, cost in results]))
                print(f"{spread:5.2f} {value:5.2f}  {name:38}{shares} {cost:5.2f}", flush=True)


if __name__ == "__main__":
    main()
