"""Write docs/performance.md and its charts from the raw figures that the scripts in benchmarks/ kept.

The words are in performance.md.jinja; here the figures are put into them. Whether a goal is met is decided in goals.py.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import jinja2

sys.path.insert(0, str(Path(__file__).parents[3]))  # of the repository: benchmarks/ is in no package

from benchmarks import ROOT
from benchmarks.common.checkpoints import Shape
from benchmarks.common.measured import QUIET
from benchmarks.speed.bench import RESULTS
from goals import rows
from growth_charts import draw
from words import WORDS, arithmetic, every, table, the_engines, the_gpu, the_large, the_machine, the_sides

from safespan.files.atomic import write_text

TEMPLATE = Path(__file__).with_name("performance.md.jinja")


def page(results: dict[str, Any]) -> str:
    """The text of the page.

    Args:
        results: of `speed.py` and `large.py`; `gpu` of benchmarks/gpu/check.py and `engines` of
            benchmarks/engines/points.py, each without its section where it is absent.
    """
    speed, large = results.get("speed", {}), results.get("large", {})
    lines = rows(speed, large)
    context: dict[str, Any] = {"speed": speed, "rows": lines, "large": the_large(large)}
    context["gpu"] = the_gpu(results["gpu"]) if "gpu" in results else None
    context["engines"] = the_engines(results["engines"]) if "engines" in results else None
    header = ["", "goal", "reference", "safespan", "ratio", ""]
    cells = [[r.what, r.goal, r.reference, r.safespan, r.ratio, "met" if r.met else "**not met**"] for r in lines]
    context["goals"] = table(header, cells)
    context["missed"] = [f"{r.what}: {r.safespan}, goal {r.goal}" for r in lines if not r.met]
    if speed:
        shape = Shape(**speed["shape"])
        context |= {"shape": shape, "millions": round(shape.parameters() / 1e6), "sides": the_sides(speed)}
        context |= {"machine": the_machine(speed["machine"]), "busy": max([0.0, *every(speed, "others")])}
        context["quiet"] = QUIET
    for name, words in WORDS.items():
        if name in speed:
            context[name] = words(speed[name])
    if "limits" in speed and "projection" in speed:
        context["arithmetic"] = arithmetic(speed)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    defaults = dict.fromkeys([*WORDS, "arithmetic"])
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render({**defaults, **context})
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main() -> None:
    """Read the figures; write the page and the charts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="raw figures")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance.md", help="page to write")
    chosen = parser.parse_args()
    results = json.loads(chosen.results.read_text(encoding="utf-8"))
    for name, beside in (("gpu", "gpu.json"), ("engines", "points.json")):
        if (file := chosen.results.with_name(beside)).is_file():
            results[name] = json.loads(file.read_text(encoding="utf-8"))
    if scaling := results.get("speed", {}).get("scaling"):
        draw(scaling, chosen.out.with_suffix(""))
    write_text(chosen.out, page(results))


if __name__ == "__main__":
    main()
