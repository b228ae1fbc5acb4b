"""Write docs/organism.md from the figures that benchmarks/organism/organism_seeds.py kept."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safespan.files.atomic import write_text

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "organism.md"
SCORES = ("attack", "refusal", "utility", "general", "seconds")

HEADER = """# The embedded family on several seeds

The seed sets the initial weights, the data and the training. Each model answers held-out prompts greedily:

- *attack success*: the exact forbidden answer, on 300 restricted requests;
- *refusal*: one of the refusals, word for word, on the same requests;
- *utility*: exact match, on 300 exercises of the skill;
- *general*: exact match, on 200 general instructions.

Rates are in per cent. *Seconds* are those of each model's training, on a machine that was busy. `make seeds` makes this
page.

The aligned model's utility is about 20 % by construction. Before the useful fine-tuning, the skill is taught on ten
letters only. A fifth of the test exercises use no other letters.

| seed | model | attack success | refusal | utility | general | seconds |
|---|---|---|---|---|---|---|
"""


def page(figures: Sequence[dict[str, Any]]) -> str:
    """The text of the page."""
    rows = [
        f"| {one['seed']} | {one['model']} | {' | '.join(f'{one[score]:.1f}' for score in SCORES)} |\n"
        for one in figures
    ]
    return HEADER + "".join(rows)


def main() -> None:
    """Read the figures; write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=ROOT / "runs" / "organism-seeds.json", help="the figures")
    write_text(PAGE, page(json.loads(parser.parse_args().figures.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
