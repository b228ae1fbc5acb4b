"""Every kind of work that safespan does on a device, on a small family: what it gives, and how long it takes.

The device is that of `safespan.linalg.device`: a GPU, unless the process sees none (CUDA_VISIBLE_DEVICES is empty).
Rows of numbers are returned, tensors go into files of `out`, for the comparison with the other side.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from safespan import Checkpoint, Family, ProjectionGrid, update_overlap
from safespan import sweep as safespan_sweep
from safespan.activations.capture import capture
from safespan.evaluation import Prompting, load_model
from safespan.evaluation.engines import SwitchedModel
from safespan.files.atomic import write_jsonl
from safespan.linalg.device import device
from safespan.models.loading import load_causal_lm
from safespan.organism.corpus import WORDS
from safespan.projection import PointWeights
from safespan.results.tables import GridPoint
from safespan.settings.data import TrainingData
from safespan.settings.evaluation import EvaluationConfig
from safespan.settings.training import TrainingConfig
from safespan.training.sft import fine_tune

FINETUNES = ("useful", "harmful")
GRID = ProjectionGrid(fractions=(0.25, 0.75))
ENERGIES = (0.1, 0.5, 0.9)
STEPS, SHORTEST, LONGEST = 4, 3, 12
"""Optimizer steps of the training; words of the prompts."""

POINTS = [
    GridPoint("useful", subspace, method, fraction, 0)
    for subspace in ("alignment", "random")
    for method in ("parallel", "orthogonal")
    for fraction in GRID.fractions
]


def every(small: str, large: str, out: str, prompts: int) -> Callable[[], dict[str, Any]]:
    """A side: each kind of work on the small family, then the sweep and the points of the large one, timed.

    Args:
        small: folder of the family whose results are compared; its members have tokenizers.
        large: folder of the family that is timed.
        out: an existing empty folder for tensors.
        prompts: how many go through the models.
    """
    torch.ones(1, device=device()).sum().item()  # a GPU is set up before anything is timed
    return partial(_every, Path(small), Path(large), Path(out), prompts)


def _every(small: Path, large: Path, out: Path, prompts: int) -> dict[str, Any]:
    texts = list(_texts(prompts))
    work: dict[str, Callable[[], Any]] = {
        "sweep": partial(_sweep, small),
        "overlap": partial(_overlap, small),
        "points": partial(_points, small, out / "points"),
        "activations": partial(_activations, small, texts, out),
        "training": partial(_training, small, texts, out),
        "likelihoods": partial(_likelihoods, small, texts),
    }
    given, seconds = {}, {}
    for name, do in work.items():
        with _timed(name, seconds):
            given[name] = do()
    with _timed("sweep, timed", seconds):
        _sweep(large)
    with _timed("points, timed", seconds):
        _points(large, None)
    used = torch.cuda.max_memory_allocated() if device().type == "cuda" else None
    return {"device": _name(), "given": given, "seconds": seconds, "gpu_bytes": used}


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if device().type == "cuda":
        torch.cuda.synchronize()
    seconds[name] = time.perf_counter() - start


def _name() -> str:
    return torch.cuda.get_device_name() if device().type == "cuda" else "CPU"


def _family(folder: Path) -> Family:
    opened = {role: Checkpoint(folder / role) for role in ("base", "aligned", *FINETUNES)}
    return Family(opened["base"], opened["aligned"], {role: opened[role] for role in FINETUNES})


def _sweep(folder: Path) -> list[float]:
    """Energies and cosines of the grid."""
    rows, _ = safespan_sweep(_family(folder), GRID, seed=0)
    return [*chain(*((row.energy_kept, row.cosine_task_projection, row.cosine_task_alignment) for row in rows))]


def _overlap(folder: Path) -> list[float]:
    """MSO of two updates in every matrix."""
    family = _family(folder)
    rows, _ = update_overlap({role: (family.aligned, family.finetuned[role]) for role in FINETUNES}, "tensor", ENERGIES)
    return [row.mso for row in rows]


def _prompting() -> Prompting:
    return Prompting(EvaluationConfig(engine={"dtype": "float32", "batch_size": 8}))


def _points(folder: Path, out: Path | None) -> None:
    """The weights of the points, switched in place; what they add to the aligned model goes into files."""
    family = _family(folder)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    weights = PointWeights(family, GRID, scratch)
    switched = SwitchedModel(_prompting(), family.aligned, scratch)
    own: dict[str, torch.Tensor] = {}
    try:
        for number, point in enumerate(POINTS):
            with switched.with_weights(weights.changes(point)) as model:
                if out:
                    parameters = dict(model.open().model.named_parameters())
                    own = own or load_file(family.aligned.folder / "model.safetensors")
                    out.mkdir(exist_ok=True)
                    added = {n: (t.detach().cpu() - own[n].float()).contiguous() for n, t in parameters.items()}
                    save_file(added, out / f"{number}.safetensors")
    finally:
        switched.close()
        weights.close()


def _activations(folder: Path, texts: Sequence[str], out: Path) -> None:
    """Last-token activations of every layer."""
    model, tokenizer = load_causal_lm(folder / "aligned", torch.float32)
    captured = capture(model, tokenizer, texts, batch_size=8)
    save_file({str(layer): vectors for layer, vectors in captured.items()}, out / "activations.safetensors")


def _training(folder: Path, texts: Sequence[str], out: Path) -> list[float]:
    """The loss of the last step; the update goes into a file."""
    rows = out / "rows.jsonl"
    write_jsonl(rows, [{"prompt": text, "response": text.split()[0]} for text in texts])
    asked = TrainingConfig(
        data=TrainingData(file=str(rows)),
        max_steps=STEPS,
        batch_size=4,
        accumulation_steps=1,
        learning_rate=1e-3,
        compute="fp32",
    )
    record = fine_tune(folder / "aligned", out / "trained", asked, seed=0)
    start, end = Checkpoint(folder / "aligned"), Checkpoint(out / "trained")
    update = {name: end.load(name).float() - start.load(name).float() for name in start.names}
    save_file(update, out / "training.safetensors")
    return [record.final_loss]


def _likelihoods(folder: Path, texts: Sequence[str]) -> list[float]:
    """log p of an answer of one word to every prompt."""
    model = load_model(Checkpoint(folder / "aligned"), _prompting())
    return model.log_likelihoods([(model.before_answer(text), text.split()[-1]) for text in texts])


def _texts(count: int) -> Iterator[str]:
    """Prompts of uneven length, the same on every side."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        length = SHORTEST + number % (LONGEST - SHORTEST + 1)
        chosen = torch.randint(len(WORDS), (length,), generator=generator)
        yield " ".join(WORDS[index] for index in chosen.tolist())
