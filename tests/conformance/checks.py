"""What is tried on every architecture, each against Transformers, PEFT or float64 LAPACK."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from conformance.architectures import LAYERS, Triple, auto_model
from oracle import exact, mso
from safespan.activations import capture, capture_for_hypotheses
from safespan.activations.capture import decoder_blocks
from safespan.checkpoints import Checkpoint, in_block, open_checkpoint
from safespan.checkpoints.forms import form_of
from safespan.evaluation import SwitchedModel, load_model
from safespan.evaluation.prompting import Prompting
from safespan.files.atomic import write_jsonl
from safespan.models.folders import weight_files
from safespan.models.loading import load_causal_lm
from safespan.models.stored_names import check_in_memory
from safespan.organism.family import task_settings
from safespan.overlap import update_overlap
from safespan.projection import Change, Family, sweep
from safespan.projection.write import write_projected
from safespan.settings import StudyConfig, TrainingConfig
from safespan.settings.analysis import ProjectionGrid
from safespan.study.run import run_study
from safespan.subspaces import CapturedActivations
from safespan.training.sft import fine_tune

PROMPTS = ["a b c", "d e", "f g h i j", "k"]
GRID = ProjectionGrid(subspaces=("alignment",), methods=("parallel",), fractions=(0.25,))


def family(triple: Triple) -> Family:
    return Family(Checkpoint(triple.base), Checkpoint(triple.aligned), {"useful": Checkpoint(triple.tuned)})


def stored(folder: Path) -> dict[str, np.ndarray]:
    """Every weight in float64, matrices as outputs × inputs."""
    from safetensors.torch import load_file

    kind = Checkpoint(folder).config["model_type"]
    found = {}
    for file in weight_files(folder):
        for name, tensor in load_file(file).items():
            if form := form_of(kind, name, tuple(tensor.shape)):
                found[name] = exact(form.read(tensor))
    return found


def stack(tensor: np.ndarray) -> list[np.ndarray]:
    """The matrices of a weight."""
    return [tensor] if tensor.ndim == 2 else list(tensor) if tensor.ndim == 3 else []


def energies(triple: Triple, *_: object) -> str:
    """The energy that a point keeps, by LAPACK."""
    names = family(triple).names()
    base, aligned, tuned = (stored(folder) for folder in triple[1:])
    inside = whole = 0.0
    for name in names:
        alignment, delta = aligned[name] - base[name], tuned[name] - aligned[name]
        whole += float((delta**2).sum())
        if delta.ndim < 2:
            along = float((delta * alignment).sum()) ** 2 / float((alignment**2).sum() or 1)
            inside += along
        for update, change in zip(stack(alignment), stack(delta), strict=True):
            left = np.linalg.svd(update, full_matrices=False)[0][:, : max(1, round(0.25 * min(update.shape)))]
            inside += float(((left.T @ change) ** 2).sum())
    rows, _ = sweep(family(triple), GRID, 0)
    assert abs(rows[0].energy_kept - inside / whole) < 1e-5, (rows[0].energy_kept, inside / whole)
    return ""


def overlaps(triple: Triple, *_: object) -> str:
    """The overlap of two updates' subspaces, by LAPACK, of one matrix of a block."""
    names = family(triple).names()
    base, aligned, tuned = (stored(folder) for folder in triple[1:])
    name = next(name for name in names if in_block(name) and aligned[name].ndim == 2 and min(aligned[name].shape) > 4)
    updates = {"x": (Checkpoint(triple.base), Checkpoint(triple.aligned))}
    updates["y"] = (Checkpoint(triple.aligned), Checkpoint(triple.tuned))
    rows, _ = update_overlap(updates, "tensor", (0.5,))
    [row] = [row for row in rows if row.group == name]
    assert abs(row.mso - mso(aligned[name] - base[name], tuned[name] - aligned[name], 0.5)) < 1e-4, (row, name)
    return ""


def projected(triple: Triple, folder: Path) -> str:
    """A written projection is read by Transformers, whole and as it was written."""
    write_projected(family(triple), GRID, 0, folder / "projected")
    model, told = auto_model(triple.kind).from_pretrained(folder / "projected", output_loading_info=True)
    assert not told["missing_keys"], told
    assert not told["mismatched_keys"], told
    unexpected = [name for name in told["unexpected_keys"] if "inv_freq" not in name]
    assert not unexpected, told
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    return ""


def streams(triple: Triple, *_: object) -> str:
    """The residual stream is that of Transformers, prompt by prompt."""
    model, tokenizer = load_causal_lm(triple.aligned)
    captured = capture(model, tokenizer, PROMPTS, chat_template=True)
    assert sorted(captured) == list(range(1, LAYERS + 1))
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(f"<bos> <user> {prompt} <bot>", return_tensors="pt", add_special_tokens=False)["input_ids"]
        seen: dict[int, torch.Tensor] = {}

        def keep(layer: int, _module: object, _inputs: object, out: Any, seen: dict[int, torch.Tensor] = seen) -> None:
            seen[layer] = (out if isinstance(out, torch.Tensor) else out[0])[0, -1]

        blocks = enumerate(decoder_blocks(model), start=1)
        hooks = [block.register_forward_hook(partial(keep, number)) for number, block in blocks]
        with torch.no_grad():
            model(input_ids=ids)
        for hook in hooks:
            hook.remove()
        for layer, rows in captured.items():
            torch.testing.assert_close(rows[row], seen[layer], atol=1e-4, rtol=1e-3)
    return ""


def inputs(triple: Triple, folder: Path) -> str:
    """The share of the blocks' matrices whose inputs are caught; of each, the shape."""
    file = folder / "captured.safetensors"
    capture_for_hypotheses(Checkpoint(triple.aligned), {"useful": PROMPTS, "harmful": PROMPTS[::-1]}, file)
    captured, checkpoint = CapturedActivations(file), Checkpoint(triple.aligned)
    caught = total = 0
    for name, shape in checkpoint.shapes.items():
        if not in_block(name) or len(shape) < 2:
            continue
        names = [name] if len(shape) == 2 else [f"{name}[{n}]" for n in range(shape[0])]
        for one in names:
            total += shape[-1] * shape[-2]
            given = captured.inputs("useful", one)
            if given is not None:
                assert given.shape[1] == shape[-1], (one, given.shape, shape)
                caught += shape[-1] * shape[-2]
    return f"{100 * caught / total:.0f} %"


def answers(triple: Triple, *_: object) -> str:
    """Greedy answers are those of Transformers, token by token."""
    model = load_model(open_checkpoint(triple.aligned))
    plain, tokenizer = (
        auto_model(triple.kind).from_pretrained(triple.aligned),
        AutoTokenizer.from_pretrained(triple.aligned),
    )
    for prompt, said in zip(PROMPTS, model.generate(PROMPTS, 6, chat_template=True), strict=True):
        ids = tokenizer(f"<bos> <user> {prompt} <bot>", return_tensors="pt", add_special_tokens=False)["input_ids"]
        start = ids.shape[1]
        for _ in range(6):
            with torch.no_grad():
                best = plain(ids).logits[0, -1].argmax()
            if best == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, best[None, None]], dim=1)
        assert said == tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip(), prompt
    return ""


def points(triple: Triple, folder: Path) -> str:
    """The aligned model with the whole update in place has the fine-tune's logits, and is itself again after it."""
    models = family(triple)
    check_in_memory(triple.aligned, "aligned", models.aligned.stored_shapes)
    changes = [Change(name, models.task_update(name, "useful"), (False, False)) for name in models.names()]
    switched = SwitchedModel(Prompting(), models.aligned, folder)
    ids = torch.tensor([[5, 6, 7, 8, 9]])

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits

    before = logits(auto_model(triple.kind).from_pretrained(triple.aligned))
    with switched.with_weights(changes) as point:
        loaded = point.open().model
        assert loaded is not None
        torch.testing.assert_close(
            logits(loaded), logits(auto_model(triple.kind).from_pretrained(triple.tuned)), atol=2e-3, rtol=1e-3
        )
    switched.close()
    assert torch.equal(logits(loaded), before)
    return ""


def _recipe(folder: Path, **fields: Any) -> TrainingConfig:
    write_jsonl(folder / "rows.jsonl", [{"prompt": f"a {x}", "response": f"{x} c"} for x in "bcdefghi"])
    known = {
        "data": str(folder / "rows.jsonl"), "max_steps": 2, "batch_size": 2, "accumulation_steps": 1,
        "learning_rate": 0.01, "compute": "fp32", "gradient_checkpointing": False,
    }  # fmt: skip
    return TrainingConfig.model_validate(known | fields)


def trained(triple: Triple, folder: Path) -> str:
    """A full training writes a model that Transformers reads, and that differs from its start in its blocks."""
    fine_tune(str(triple.aligned), folder / "trained", _recipe(folder), 0)
    _, told = auto_model(triple.kind).from_pretrained(folder / "trained", output_loading_info=True)
    assert not told["missing_keys"], told
    models = Family(None, Checkpoint(triple.aligned), {"useful": Checkpoint(folder / "trained")})
    names = [name for name in models.names() if in_block(name)]
    changed = sum(bool(models.task_update(name, "useful").any()) for name in names)
    assert changed > 0.5 * len(names), changed
    return ""


def adapted(triple: Triple, folder: Path) -> str:
    """The update of a trained LoRA is what PEFT merges."""
    fine_tune(str(triple.aligned), folder / "lora", _recipe(folder, lora={"rank": 2, "merge": False}), 0)
    merged = PeftModel.from_pretrained(auto_model(triple.kind).from_pretrained(triple.aligned), str(folder / "lora"))
    merged.merge_and_unload().save_pretrained(folder / "merged")
    adapter = open_checkpoint(f"{triple.aligned}+{folder / 'lora'}")
    models = Family(None, Checkpoint(triple.aligned), {"useful": adapter})
    before, after = stored(triple.aligned), stored(folder / "merged")
    for name in models.names():
        update = exact(models.task_update(name, "useful").cpu())
        np.testing.assert_allclose(update, after[name] - before[name], atol=1e-5, err_msg=name)
    return ""


def three_tests(triple: Triple, folder: Path) -> str:
    """The update, the ablation and the training test of two claims run to their verdicts."""
    write_jsonl(folder / "task.jsonl", [{"prompt": f"a b {x}", "answer": f"{x} c"} for x in "abcdef"])
    task = task_settings("tiny", folder / "task.jsonl", ["<eos>"], 3)
    (folder / "task.yaml").write_text(json.dumps(task))
    write_jsonl(folder / "harmful.jsonl", [{"prompt": f"help i {x}", "target": f"{x} d"} for x in "abcdef"])
    recipe = _recipe(folder).model_dump(mode="json", exclude_unset=True)
    settings = {
        "name": "conformance", "threads": 1,
        "models": {
            "base": {"model": str(triple.base)}, "aligned": {"model": str(triple.aligned)},
            "useful": {"model": str(triple.tuned)}, "harmful": {"model": str(triple.tuned)},
            "contaminated": {"start": "aligned", "train": recipe | {"contaminate_with": recipe["data"]}},
        },
        "evaluation": {
            "utility": {"task": str(folder / "task.yaml")},
            "harmfulness": {"prompts": str(folder / "harmful.jsonl"), "max_new_tokens": 3},
        },
        "projection": None, "overlap": None,
        "activations": {
            "useful": str(folder / "rows.jsonl"), "harmful": str(folder / "harmful.jsonl"), "models": ["aligned"],
            "energies": [0.5], "permutations": 0, "bootstraps": 0,
        },
        "verdict": {
            "hypotheses": ["alignment", "actsvd"], "fractions": [0.5], "controls": 2, "confidence": 0.5, "prompts": 4,
            "resamples": 100, "refusals": ["i"], "generate": False,
            "tests": ["update", "ablation", "training"], "training": {"controls": 2, "points": 1},
        },
    }  # fmt: skip
    run_study(StudyConfig.model_validate(settings), folder / "run")
    return ""


CHECKS: dict[str, Callable[[Triple, Path], str]] = {
    "sweep": energies,
    "overlap": overlaps,
    "project, load": projected,
    "activations": streams,
    "inputs caught": inputs,
    "evaluate": answers,
    "points in memory": points,
    "three tests": three_tests,
    "train": trained,
    "train LoRA": adapted,
}
"""Column of the table -> its check, which returns what the cell says, if it is more than yes."""
