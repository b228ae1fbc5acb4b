"""The fault campaign: disturb a small study many times, print what came of it, and make the table of a document."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # trials are forks that have imported everything; their processes would not have
sys.path.insert(0, str(Path(__file__).parents[1]))

from made import RELIABILITY, put_into
from tiny_model import save_tiny_model

from .campaign import Bench, Trial, killed, misjudged, prepare, without_space, worker_killed
from .judge import judge_server
from .study import write_study
from .table import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="times that the study is killed")
    parser.add_argument("--judges", type=int, default=20, help="runs with a judge that misbehaves")
    parser.add_argument("--disks", type=int, default=20, help="runs on a disk that is full; takes root")
    parser.add_argument("--workers", type=int, default=5, help="runs on Ray with workers killed")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial of each kind")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    given = parser.parse_args()
    if given.disks and os.geteuid() != 0:
        parser.error("--disks mounts small file systems, which takes root: be root, or give --disks 0")
    kinds: list[tuple[Callable[[Bench, int], Trial], int]] = [
        (killed, given.kills), (misjudged, given.judges), (without_space, given.disks), (worker_killed, given.workers)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, judge_server() as judge:
        folder = Path(scratch)
        os.environ["SAFESPAN_CACHE"] = str(folder / "spectra")
        bench = prepare(write_study(folder, save_tiny_model, f"{judge}/v1"), judge, folder)
        print(f"undisturbed: {bench.seconds:.1f} s", flush=True)
        trials = []
        for disturb, number in kinds:
            for seed in range(given.seed, given.seed + number):
                trials.append(disturb(bench, seed))
                print(trials[-1], flush=True)
    made = table(trials, bench.seconds)
    print(made)
    if given.write:
        put_into(RELIABILITY, "python -m tests.faults --write", made)
    sys.exit(not all(trial.well for trial in trials))


main()
