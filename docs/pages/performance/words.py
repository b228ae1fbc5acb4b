"""The figures of each section as the words and tables that performance.md.jinja has places for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.common.checkpoints import Shape
from benchmarks.common.measured import QUIET
from flops import FORMULA, orders, products, read_bytes
from goals import gigabytes, middle, peak, reference_seconds
from growth_charts import TITLES


def table(header: Sequence[str], cells: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *cells]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def the_machine(about: dict[str, Any]) -> dict[str, Any]:
    """The machine, its memory and settings as text."""
    settings = ", ".join(f"`{name}={value}`" for name, value in about["settings"].items())
    return {**about, "memory": f"{about['memory_bytes'] / 1e9:.0f} GB", "settings": settings}


def every(tree: Any, field: str) -> Iterator[float]:
    """Every value of a field, wherever it is in the results."""
    if isinstance(tree, dict):
        if isinstance(tree.get(field), float):
            yield tree[field]
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from every(part, field)


def the_sides(speed: dict[str, Any]) -> str:
    """Seconds and memory of every side of every comparison."""
    cells = []
    for section in ("projection", "overlap", "activations", "written"):
        runs_of = speed.get(section, {}).get("runs", {})
        for side in sorted(runs_of, key=list(SIDES).index):
            runs = runs_of[side]
            field = "seconds" if section != "written" else "wall"
            took = [run[field] for run in runs]
            libraries = gigabytes(peak(runs, "libraries")) if "libraries" in runs[0] else "–"
            spread = f"{min(took):.2f} to {max(took):.2f}"
            cells.append(
                [section, SIDES.get(side, side), f"{middle(runs, field):.2f}", spread, gigabytes(peak(runs)), libraries]
            )
    return table(["", "side", "seconds", "lowest to highest", "peak memory", "libraries"], cells)


SIDES = {
    "cold": "safespan, nothing cached",
    "cached": "safespan, spectra cached",
    "no cache": "safespan, `--no-cache`",
    "ours": "safespan",
    "mergekit": "mergekit",
    "reference": "reference procedure",
    "alignment": "reference, one point, alignment",
    "random-k": "reference, one point, random-k",
    "random": "reference, one point, random",
    "0.1": "reference, η = 0.1",
    "0.9": "reference, η = 0.9",
}


def the_projection(section: dict[str, Any]) -> dict[str, Any]:
    """The grid of points."""
    kinds = [name for name in section["runs"] if name not in ("cold", "cached")]
    return {
        "points": section["points"],
        "kinds": ", ".join(f"{name} {middle(section['runs'][name]):.1f} s" for name in kinds),
        "difference": f"{section['difference']:.1g}",
        "filling": f"{section['filling']['seconds']:.1f}",
        "cache": gigabytes(section["cache_bytes"]),
    }


def the_overlap(section: dict[str, Any]) -> dict[str, Any]:
    """The overlap of two updates."""
    kinds = [f"η = {name} {middle(runs):.1f} s" for name, runs in section["runs"].items() if name[0].isdigit()]
    return {**section, "kinds": ", ".join(kinds), "difference": f"{section['difference']:.1g}"}


def the_activations(section: dict[str, Any]) -> dict[str, Any]:
    """Last-token activations."""
    layers = section["layers"]
    return {**section, "first": layers[0], "last": layers[-1], "difference": f"{section['difference']:.1g}"}


def the_written(section: dict[str, Any]) -> dict[str, Any]:
    """One checkpoint written."""
    return {"size": gigabytes(section["checkpoint_bytes"]), "difference": f"{section['difference']:.1g}"}


def the_limits(section: dict[str, Any]) -> dict[str, Any]:
    """What the machine can do."""
    cells = [
        [f"product, {row['library']}, {row['dtype']}, threads: {row['threads']}", f"{row['gflops']:.0f} GFLOP/s"]
        for row in section["products"]
    ]
    for row in section["eigenvectors"]:
        what = f"eigenvectors, numpy, float64, order {row['order']}, threads: {row['threads']}"
        cells.append([what, f"{1000 * row['seconds']:.1f} ms"])
    for row in section["copies"]:
        cells.append([f"copy in memory, read + written, threads: {row['threads']}", f"{row['gb_per_second']:.1f} GB/s"])
    names = {
        "written": "file written",
        "read_from_disk": "file read from disk",
        "read_from_cache": "file read from the page cache",
    }
    cells += [[name, f"{section['files'][key]:.2f} GB/s"] for key, name in names.items()]
    return {"size": section["size"], "table": table(["limit", "measured"], cells)}


def the_breakdown(section: dict[str, Any]) -> dict[str, Any]:
    """Where the time of a sweep goes."""
    total = sum(section["categories"].values())
    shares = sorted(section["categories"].items(), key=lambda pair: -pair[1])
    categories = table(["", "seconds", "share"], [[n, f"{s:.2f}", f"{100 * s / total:.0f} %"] for n, s in shares])
    cells = [[f"`{row['function']}`", row["category"], f"{row['seconds']:.2f}"] for row in section["functions"][:10]]
    functions = table(["function", "for", "seconds"], cells)
    return {"seconds": f"{section['seconds']:.1f}", "categories": categories, "functions": functions}


def the_scaling(section: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """How a sweep grows."""
    return {name: {"title": TITLES[name], **growth(name, series)} for name, series in section.items()}


def growth(name: str, series: list[dict[str, Any]]) -> dict[str, str]:
    """One series as a table and a sentence."""
    header = [TITLES[name].lower(), "safespan, s", "reference, s a point", "times as fast", "peak memory"]
    cells = [
        [
            row["size"],
            f"{middle(row['runs']):.2f}",
            f"{row['reference']['seconds']:.2f}",
            f"{row['points'] * row['reference']['seconds'] / middle(row['runs']):.0f}",
            gigabytes(peak(row["runs"])),
        ]
        for row in series
    ]
    first, last = series[0], series[-1]
    seconds, peaks = middle(last["runs"]) / middle(first["runs"]), peak(last["runs"]) / peak(first["runs"])
    kept = {field: value for field, value in last["shape"].items() if field in ("hidden", "layers", "vocabulary")}
    fixed = ", ".join(f"{field} {value}" for field, value in kept.items() if field != name)
    words = (
        f"From {first['size']} to {last['size']} ({last['size'] / first['size']:g} ×; {fixed}) the seconds grow "
        f"{seconds:.2f} × and the peak memory {peaks:.2f} ×."
    )
    return {"table": table(header, cells), "words": words}


def arithmetic(speed: dict[str, Any]) -> dict[str, str]:
    """The least time that a sweep can take on this machine, and how near it comes."""
    shape, finetunes, limits = Shape(**speed["shape"]), 3, speed["limits"]
    peaks = {
        dtype: max(row["gflops"] for row in limits["products"] if row["dtype"] == dtype)
        for dtype in ("float64", "float32")
    }
    counts = {dtype: count / 1e9 for dtype, count in products(shape, finetunes).items()}
    multiplied = sum(counts[dtype] / peaks[dtype] for dtype in peaks)
    cores = max(row["threads"] for row in limits["eigenvectors"])
    decomposed = sum(
        count * min(_at_once(row, cores) for row in limits["eigenvectors"] if row["order"] == order)
        for order, count in orders(shape).items()
    )
    read = read_bytes(shape, finetunes) / 1e9
    reading = read / limits["files"]["read_from_cache"]
    seconds, ideal = middle(speed["projection"]["runs"]["cold"]), multiplied + decomposed + reading
    return {
        "float64": f"{counts['float64']:.0f}",
        "float32": f"{counts['float32']:.0f}",
        "formula": FORMULA,
        "seconds": f"{seconds:.2f}",
        "peak64": f"{peaks['float64']:.0f}",
        "peak32": f"{peaks['float32']:.0f}",
        "multiplied": f"{multiplied:.2f}",
        "decompositions": f"{sum(orders(shape).values())}",
        "decomposed": f"{decomposed:.2f}",
        "read": f"{read:.2f}",
        "reading": f"{reading:.2f}",
        "ideal": f"{ideal:.2f}",
        "over": f"{seconds / ideal:.2f}",
        "ceiling": f"{reference_seconds(speed['projection']) / ideal:.0f}",
        "reached": f"{reference_seconds(speed['projection']) / seconds:.0f}",
    }


def _at_once(row: dict[str, Any], cores: int) -> float:
    """Seconds a decomposition where every core is busy: as many at once as the cores hold."""
    return float(row["seconds"] * row["threads"] / cores)


def the_large(section: dict[str, Any]) -> dict[str, Any]:
    """The sweeps of large models; nothing where none was measured."""
    runs = [section[name] for name in ("once", "twice") if name in section]
    if not runs:
        return {}
    cells = []
    for run in runs:
        checkpoints, memory, kept = (gigabytes(run[field]) for field in ("checkpoint_bytes", "peak", "cache_bytes"))
        cells.append([run["layers"], checkpoints, run["points"], f"{run['wall']:.0f}", memory, kept])
    header = ["layers", "checkpoints", "points", "seconds", "peak memory", "spectra kept"]
    words = f"The largest tensor takes {gigabytes(runs[0]['largest'])} in float32."
    words += " The files had just been written: what fits into memory was read from the page cache."
    if runs[1:]:
        time, memory = (runs[1][field] / runs[0][field] for field in ("wall", "peak"))
        words += f" Twice the layers take {time:.2f} × the time and {memory:.2f} × the memory."
    if (busy := max(run["others"] for run in runs)) > QUIET:
        words += f" **Other processes kept up to {busy:.2f} cores busy meanwhile.**"
    cache = "" if section["flags"] else ", from an empty cache of spectra that it fills"
    flags = "".join(f" {flag}" for flag in section["flags"])
    figures = {"once": runs[0], "shape": section["shape"], "table": table(header, cells), "words": words}
    return {**figures, "cache": cache, "flags": flags}


def the_accuracy(section: dict[str, Any]) -> dict[str, Any]:
    """Distances from LAPACK's SVD."""
    kinds = ("energy", "projection", "overlap", "random")
    cells = [[row["shape"], row["update"], *(f"{row[kind]:.1g}" for kind in kinds)] for row in section["rows"]]
    header = ["matrix", "alignment update", "energy kept", "P_k Δ_T", "MSO", "QᵀQ − I of a random basis"]
    return {"table": table(header, cells)}


def the_switching(section: dict[str, Any]) -> dict[str, Any]:
    """What giving the model a point's weights costs."""
    milliseconds = {part: f"{1000 * section[part]:.0f}" for part in ("switch", "answer")}
    return {**section, **milliseconds, "share": f"{100 * section['share']:.1f} %"}


def the_gpu(section: dict[str, Any]) -> dict[str, Any]:
    """Every kind of work on a GPU, against the CPU."""
    cells = [
        [r["what"], r["measure"], f"{r['distance']:.1g}", f"{r['tolerance']:g}", "yes" if r["within"] else "**no**"]
        for r in section["rows"]
    ]
    seconds = section["seconds"]
    times = [[name, *(f"{seconds[side][name]:.2f}" for side in ("device", "cpu"))] for name in seconds["cpu"]]
    memory = (
        f" PyTorch's tensors took up to {gigabytes(section['gpu_bytes'])} of its memory."
        if section["gpu_bytes"]
        else ""
    )
    return {
        **section,
        "compared": table(["work", "distance from the CPU", "found", "tolerance", "within"], cells),
        "times": table(["work", section["device"], "CPU"], times),
        "memory": memory,
        "minutes": f"{section['wall'] / 60:.1f}",
    }


def the_engines(section: dict[str, Any]) -> dict[str, Any]:
    """What a point costs by each engine."""
    header = ["prompts", "engine", "first point", "weights", "answers", "a point", "peak memory", "answers that differ"]
    cells = []
    for row in section["rows"]:
        weights, answers = median(row["switch"][1:] or row["switch"]), median(row["answer"])
        seconds = [f"{value:.2f} s" for value in (row["switch"][0], weights, answers, weights + answers)]
        differ = f"{row['differ']} of {row['answers']}"
        cells.append([row["prompts"], ENGINES[row["way"]], *seconds, gigabytes(row["peak"]), differ])
    return {**section, "machine": the_machine(section["machine"]), "table": table(header, cells)}


ENGINES = {
    "checkpoint": "vLLM, a new one for each point",
    "in place": "vLLM, changed in place",
    "memory": "`memory`",
}


WORDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "projection": the_projection,
    "overlap": the_overlap,
    "activations": the_activations,
    "written": the_written,
    "accuracy": the_accuracy,
    "switching": the_switching,
    "limits": the_limits,
    "breakdown": the_breakdown,
    "scaling": the_scaling,
}
