"""The fuzz campaign: hostile files of every kind, a table of what came of them, and each that ended as it may not."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.campaign import run, table
from fuzz.guided import FILES, guided
from fuzz.kinds import KINDS
from made import RELIABILITY, put_into


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="number of files, shared out among the kinds")
    parser.add_argument("--seed", type=int, default=0, help="that every input is made from, with its number")
    parser.add_argument("--only", choices=list(KINDS), help="one kind alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one")
    parser.add_argument("--guided", type=int, default=5000, help="inputs of each kind that atheris is to find")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    given = parser.parse_args()
    if given.guided and importlib.util.find_spec("atheris") is None:
        parser.error("--guided needs the package atheris, which is for Linux: install it, or give --guided 0")
    tallies = run(given.inputs, given.seed, given.only, given.first)
    if given.guided:
        kinds = [kind for kind in FILES if given.only in (None, kind)]
        tallies |= {f"{kind}, guided": guided(kind, given.guided, given.seed + 1) for kind in kinds}
    print(table(tallies))
    others = [line for tally in tallies.values() for line in tally.others]
    print(*others[:200], sep="\n")
    if given.write:
        put_into(RELIABILITY, "python -m tests.fuzz --write", table(tallies))
    sys.exit(bool(others))


main()
