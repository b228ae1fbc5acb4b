"""What giving the model a point's weights costs, beside the point's answers, in the demo's study (`make demo`)."""

import json
from statistics import median
from typing import Any

from benchmarks import ROOT
from benchmarks.speed.bench import Bench

POINTS = ROOT / "runs" / "demo" / "results" / "points" / "projection"


def switching(_: Bench) -> dict[str, Any]:
    """Seconds of the study's points, as the study itself noted them."""
    points = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(POINTS.glob("*.json"))]
    asked = [point["seconds"] for point in points if point["seconds"]]
    if not asked:
        raise SystemExit("no points in runs/demo: run `make demo` first")
    spent = {part: [seconds[part] for seconds in asked] for part in ("switch", "answer")}
    return {
        "points": len(points),
        "asked": len(asked),
        "switch": median(spent["switch"]),
        "answer": median(spent["answer"]),
        "share": sum(spent["switch"]) / sum(spent["switch"] + spent["answer"]),
    }
