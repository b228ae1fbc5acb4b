"""What one instruction path costs: the base of the embedded family, trained on it and on the processor's own in turn.

Prints seconds of each training, and the ratio of the medians.
"""

import argparse
import os
import statistics
import subprocess
import sys

from safespan.settings.instructions import ONE_PATH

CODE = """
import tempfile, time
from pathlib import Path
from safespan.organism.family import plant, write_data
from safespan.settings.study import bundled_study, load_study
from safespan.training.sft import fine_tune

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder)
    plant(out / "start", 0)
    write_data(out / "data", 0)
    study = load_study(bundled_study("organism"), ["models.base.train.max_steps={steps}"]).resolved(out)
    begun = time.perf_counter()
    fine_tune(str(out / "start"), out / "base", study.models["base"].train, 0)
    print(time.perf_counter() - begun)
"""


def seconds(steps: int, variables: dict[str, str]) -> float:
    """Of one training in a process of its own, on one thread."""
    inherited = {name: value for name, value in os.environ.items() if name not in ONE_PATH}
    environment = {**inherited, "OMP_NUM_THREADS": "1", **variables}
    words = [sys.executable, "-c", CODE.replace("{steps}", str(steps))]
    printed = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    return float(printed.split()[-1])


def main() -> None:
    """Read the options; train in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    times: dict[str, list[float]] = {"one path": [], "the processor's own": []}
    for _ in range(asked.rounds):
        for name, variables in zip(times, (ONE_PATH, {}), strict=True):
            times[name].append(seconds(asked.steps, variables))
            print(f"{name:<22}{times[name][-1]:.2f} s", flush=True)
    one, own = (statistics.median(values) for values in times.values())
    print(f"one path / the processor's own: {one / own:.2f}")


if __name__ == "__main__":
    main()
