"""Where the time of a sweep goes, and how it grows with the model and the grid."""

from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.common.checkpoints import Shape
from benchmarks.common.measured import in_process, in_turn, undisturbed
from benchmarks.speed.bench import Bench, bare
from benchmarks.speed.sections import TIMED_FRACTION, reference_point
from benchmarks.speed.sizes import FINETUNES, FRACTIONS, Sizes, grid_points

WHOLE = (len(FINETUNES), len(FRACTIONS))


def breakdown(bench: Bench) -> dict[str, Any]:
    """Where the time of a sweep goes."""
    asked = {"folder": bench.family, "finetunes": FINETUNES, "fractions": FRACTIONS}
    run = undisturbed("one thread", partial(in_process, "speed.breakdown", "profiled", **asked))
    return {**run["result"], **bare(run)}


def scaling(bench: Bench) -> dict[str, Any]:
    """Sweep and reference point against hidden size, layers, and points of the grid."""
    by_hidden, by_layers = bench.sizes.hidden, bench.sizes.of_layers()
    whole = {shape: grown(bench, shape, [WHOLE])[0] for shape in dict.fromkeys((*by_hidden, *by_layers))}
    middle = by_layers[1]
    fewer = [counts for counts in bench.sizes.grids if counts != WHOLE]
    return {
        "hidden": [{"size": shape.hidden, **whole[shape]} for shape in by_hidden],
        "layers": [{"size": shape.layers, **whole[shape]} for shape in by_layers],
        "points": [{"size": row["points"], **row} for row in (*grown(bench, middle, fewer), whole[middle])],
    }


def grown(bench: Bench, shape: Shape, grids: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """A point of the reference procedure and the sweep of each grid (fine-tunes, fractions) on one family."""
    own = Bench(bench.scratch / f"hidden-{shape.hidden}-layers-{shape.layers}", Sizes(shape=shape), bench.repeats)
    print(f"  {own.scratch.name}", flush=True)
    run = partial(reference_point, own, "alignment", "parallel", TIMED_FRACTION)
    sides = {}
    for finetunes, fractions in grids:
        asked = {"finetunes": FINETUNES[:finetunes], "fractions": FRACTIONS[:fractions]}
        points = grid_points(finetunes, fractions)
        sides[f"{points} points"] = partial(in_process, "speed.ours", "sweep", folder=own.family, **asked)
    reference = bare(undisturbed("reference, one point", run))
    runs = in_turn(sides, bench.repeats)
    about = {"shape": asdict(shape), "largest": shape.largest(), "reference": reference}
    return [
        {**about, "points": grid_points(*grid), "runs": [bare(run) for run in side]}
        for grid, side in zip(grids, runs.values(), strict=True)
    ]
