"""What looking until decided cost a run, and which of its verdicts differ from those of the fixed design.

FIXED and DECIDED are run folders of the same study and seed, with `verdict.until_decided=false` and without:
    safespan demo --set verdict.until_decided=false --out runs/fixed
    safespan demo --out runs/decided
"""

import argparse
from pathlib import Path

import polars as pl

from safespan.results.run_folder import RunFolder

TESTS = ("update", "ablation")
CLAIM = ["test", "hypothesis", "construct"]


def asked(run: RunFolder, test: str) -> int:
    """Prompts of each kind, over all points of a test."""
    points = run.read_table(test)
    changed = points if test == "update" else points.filter(pl.col("strength") > 0)
    return int(changed["prompts"].sum())


def main() -> None:
    """Read both runs; print what was asked, and every verdict that differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("decided", type=Path)
    given = parser.parse_args()
    fixed, decided = RunFolder(given.fixed), RunFolder(given.decided)
    total = {"fixed": 0, "decided": 0}
    for test in TESTS:
        whole, part = asked(fixed, test), asked(decided, test)
        total = {"fixed": total["fixed"] + whole, "decided": total["decided"] + part}
        print(f"{test}: {part:,} of {whole:,} prompts ({100 * part / whole:.0f} %)")
    print(f"together: {total['decided']:,} of {total['fixed']:,} ({100 * total['decided'] / total['fixed']:.1f} %)")
    verdicts = [run.read_table("verdicts").filter(pl.col("test").is_in(TESTS)) for run in (fixed, decided)]
    both = verdicts[0].join(verdicts[1], on=CLAIM, suffix="_decided")
    same = both.filter(pl.col("verdict") == pl.col("verdict_decided"))
    print(f"verdicts: {same.height} of {both.height} equal")
    for row in both.join(same, on=CLAIM, how="anti").rows(named=True):
        print(f"  {' '.join(row[name] for name in CLAIM)}: {row['verdict']}, until decided {row['verdict_decided']}")


if __name__ == "__main__":
    main()
