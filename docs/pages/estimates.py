"""Write the tables of docs/howto/five-models.md: estimates of what the paper's five studies need on one GPU.

Nothing here was measured on a GPU. What is measured comes from docs/performance/results.json (the sweep of a triple of
Llama-3.2-1B's shapes on two CPU cores); what is assumed is an option of this command.

Example: python docs/pages/estimates.py --tflops 300 --bandwidth 3.3
"""

import argparse
import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from safespan.files.atomic import write_text
from safespan.settings.presets import PUBLISHED_ROWS
from safespan.settings.study import StudyConfig, load_study
from safespan.study.summaries import grid_points

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "howto" / "five-models.md"
START, END = "<!-- made by docs/pages/estimates.py -->\n", "<!-- end -->"
GSM8K, ADVBENCH, MATH = PUBLISHED_ROWS.values()
"""Test questions, harmful prompts, test problems: the sizes of the data sets that studies/paper.yaml names."""
TRAINED_ROWS = {"useful": 20_000, "harmful": 4_000, "contaminated": 24_000}
"""Rows of the paper's recipes (safespan.settings.training.RECIPES)."""


@dataclass(frozen=True)
class Shape:
    """What the config.json of a model says, and how its weights are laid out."""

    layers: int
    hidden: int
    inner: int
    keys: int
    vocabulary: int
    tied: bool

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Outputs × inputs of one block's matrices."""
        attention = [(self.hidden, self.hidden)] * 2 + [(self.keys, self.hidden)] * 2
        return [*attention, *[(self.inner, self.hidden)] * 2, (self.hidden, self.inner)]

    @property
    def embeddings(self) -> list[tuple[int, int]]:
        """The token embedding, and the output head where it is another tensor."""
        return [(self.vocabulary, self.hidden)] * (1 if self.tied else 2)

    @property
    def weights(self) -> int:
        """Numbers in all matrices."""
        return sum(m * n for m, n in self.embeddings) + self.layers * sum(m * n for m, n in self.matrices)

    @property
    def work(self) -> float:
        """Multiplications of the decompositions: p²q of every matrix with p ≤ q."""

        def squared(shapes: list[tuple[int, int]]) -> float:
            return sum(min(shape) ** 2 * max(shape) for shape in shapes)

        return squared(self.embeddings) + self.layers * squared(self.matrices)


SHAPES = {
    "llama-3.2-1b": Shape(16, 2048, 8192, 512, 128_256, tied=True),
    "qwen2.5-1.5b": Shape(28, 1536, 8960, 256, 151_936, tied=True),
    "qwen2.5-3b": Shape(36, 2048, 11_008, 256, 151_936, tied=True),
    "llama-2-7b": Shape(32, 4096, 11_008, 4096, 32_000, tied=False),
    "qwen2.5-7b": Shape(28, 3584, 18_944, 512, 152_064, tied=False),
}


@dataclass(frozen=True)
class Assumed:
    """What is taken for granted; each is an option of the command."""

    tflops: float = 100.0
    bandwidth: float = 2.0
    step_ms: float = 25.0
    row_tokens: int = 300
    shot_tokens: int = 1000
    math_tokens: int = 150
    switch: float = 1.0


MEANING = {
    "tflops": ("TFLOP/s", "speed of the GPU in training and in reading prompts"),
    "bandwidth": ("TB/s", "speed of reading the GPU's memory"),
    "step_ms": ("ms", "least time for one generated token of a batch, which the library needs"),
    "row_tokens": ("tokens", "length of a training row, prompt and response"),
    "shot_tokens": ("tokens", "length of a GSM8K question with its worked examples"),
    "math_tokens": ("tokens", "length of a prompt of experiment 4"),
    "switch": ("GB/s", "speed of making, copying and hashing a point's weights"),
}


@dataclass(frozen=True)
class Estimate:
    """Gigabytes and hours of one study."""

    train: float
    lora: float
    evaluate: float
    tensor: float
    disk: float
    training_hours: float
    sweep_hours: float
    switch_hours: float
    answer_hours: float
    short_hours: float
    activation_hours: float

    @property
    def hours(self) -> float:
        """Of the whole study, without the verdict's points."""
        work = self.training_hours + self.sweep_hours + self.switch_hours
        return work + self.answer_hours + self.activation_hours


def estimate(name: str, study: StudyConfig, assumed: Assumed) -> Estimate:
    """What one study needs."""
    shape, measured = SHAPES[name], json.loads((DOCS / "performance" / "results.json").read_text())["large"]
    weights = shape.weights
    flops, bandwidth, batch = assumed.tflops * 1e12, assumed.bandwidth * 1e12, study.evaluation.engine.batch_size
    one = measured["once"]
    reference = SHAPES["llama-3.2-1b"]  # the shapes that the large sweep had
    here = grid_points(study)
    harm = study.evaluation.harmfulness
    assert harm is not None
    context = assumed.shot_tokens + 256
    cached = 2 * shape.layers * shape.keys * 2 * batch * context

    def answers(utility: int, harmful: int, longest: int) -> float:
        steps = ceil(utility / batch) * 256 + ceil(harmful / batch) * longest
        step = max(assumed.step_ms / 1e3, 2 * weights / bandwidth)
        reading = 2 * weights * utility * assumed.shot_tokens / flops
        return (len(study.models) + here) * (steps * step + reading) / 3600

    kept = (measured["twice"]["cache_bytes"] - one["cache_bytes"]) / reference.layers
    per_weight = kept / sum(m * n for m, n in reference.matrices)
    blocks = shape.layers * sum(m * n for m, n in shape.matrices)
    return Estimate(
        train=16 * weights / 1e9,
        lora=4 * weights / 1e9,
        evaluate=(4 * weights + cached) / 1e9,
        tensor=one["peak"] / one["largest"] * 4 * shape.vocabulary * shape.hidden / 1e9,
        disk=((16 + 12) * weights + per_weight * blocks) / 1e9,
        training_hours=8 * weights * assumed.row_tokens * sum(TRAINED_ROWS.values()) / flops / 3600,
        sweep_hours=one["wall"] * (shape.work / reference.work) * (here / one["points"]) / 3600,
        switch_hours=here * 2 * weights / (assumed.switch * 1e9) / 3600,
        answer_hours=answers(GSM8K, ADVBENCH, harm.max_new_tokens),
        short_hours=answers(200, 200, 128),
        activation_hours=len(study.models) * 2 * weights * 2 * MATH * assumed.math_tokens / flops / 3600,
    )


def page(assumed: Assumed) -> str:
    """Both tables."""
    rows = {name: estimate(name, load_study(DOCS.parent / "studies" / f"{name}.yaml"), assumed) for name in SHAPES}
    memory = [
        ("Training, all weights: 16 bytes for each weight", "train", "GB"),
        ("Training, LoRA: 4 bytes for each weight", "lora", "GB"),
        ("Answers: 4 bytes for each weight, and the keys and values of a batch", "evaluate", "GB"),
        ("Work on the largest tensor, in addition to the model", "tensor", "GB"),
        ("Disk: models, files of one point, cached decompositions", "disk", "GB"),
    ]
    time = [
        ("Training the three fine-tunes, all weights", "training_hours", "h"),
        ("Projections, on the two CPU cores of the measurement", "sweep_hours", "h"),
        ("Making the points' weights", "switch_hours", "h"),
        ("Answers, as the study asks", "answer_hours", "h"),
        ("Answers of the first look", "short_hours", "h"),
        ("Activations", "activation_hours", "h"),
        ("All of the study, without the verdict", "hours", "h"),
    ]
    options = [
        f"| `--{name.replace('_', '-')}` | {value:g} {MEANING[name][0]} | {MEANING[name][1]} |"
        for name, value in vars(assumed).items()
    ]
    return "\n".join(
        [
            *_table("GPU memory and disk", memory, rows),
            "",
            *_table("Time", time, rows),
            "",
            "| option | assumed | meaning |",
            "| --- | --- | --- |",
            *options,
            "",
        ]
    )


def _table(title: str, lines: list[tuple[str, str, str]], rows: dict[str, Estimate]) -> list[str]:
    header = [f"| {title} | {' | '.join(rows)} |", f"| --- |{' --- |' * len(rows)}"]
    cells = [
        f"| {words} | {' | '.join(f'{_rounded(getattr(row, field))} {unit}' for row in rows.values())} |"
        for words, field, unit in lines
    ]
    return header + cells


def _rounded(value: float) -> str:
    return f"{value:.1g}" if value < 1 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def main() -> None:
    """Put the tables where the page has them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in vars(Assumed()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=MEANING[name][1])
    made = page(Assumed(**vars(parser.parse_args())))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    write_text(PAGE, f"{before}{START}\n{made}\n{END}{rest.partition(END)[2]}")
    print(made)


if __name__ == "__main__":
    main()
