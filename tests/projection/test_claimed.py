"""The model that each claim writes, against float64 NumPy, and its adapter against the full checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from claims import captured, gaussian
from oracle import exact, project
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import ConfigError
from safespan.projection import ClaimPoint, Family, Written, claim_point, write_claimed
from safespan.settings.names import HYPOTHESES, NAMED_ONLY
from safespan.subspaces import decompose, find_hypothesis
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model

EVERY = [find_hypothesis(name) for name in (*HYPOTHESES, *NAMED_ONLY)]
UPDATE = [claim.name for claim in EVERY if "update" in claim.tests]
ABLATION = [claim.name for claim in EVERY if "ablation" in claim.tests]
TRAINING = [claim.name for claim in EVERY if claim.tests == ("training",)]
PRESENT = {"base", "safe", "harmful", "prompts"}
FRACTION = 0.4
WITHOUT_EFFECT = {"safemerge-factors", "task-update"}
"""Claims that speak of adapters, and of updates that stand above noise: here they change nothing."""


def activations(folder: Path, aligned: Checkpoint):
    """All that claims read of activations, random."""
    rows: dict[str, torch.Tensor] = {}
    for number, kind in enumerate(("useful", "harmful")):
        for place, name in enumerate(aligned.names):
            if len(shape := aligned.shapes[name]) == 2 and "layers" in name:
                rows[f"inputs__{kind}__{name}"] = gaussian(9, shape[1], seed=10 * place + number)
        for layer in (1, 2):
            for where in ("residual", "instruction", "base"):
                rows[f"{where}__{kind}__{layer}"] = gaussian(9, 16, seed=len(where) + 100 * number + layer)
    rows["refusal__direction__1"] = gaussian(16, seed=7)
    rows["refusal__scores__1"] = torch.tensor([-1.0, 1.0, 0.01], dtype=torch.float64)
    return captured(folder, **rows)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    roles = ("base", "aligned", "finetuned", "harmful", "safe")
    opened = {role: Checkpoint(save_tiny_model(folder / role, seed)) for seed, role in enumerate(roles)}
    tuned = {role: opened[role] for role in ("finetuned", "harmful")}
    return Family(opened["base"], opened["aligned"], tuned, opened["safe"], activations(folder, opened["aligned"]))


@pytest.fixture(scope="module")
def adapted(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The same with LoRA adapters of the aligned model as fine-tune, harmful and safe model."""
    folder, aligned = tmp_path_factory.mktemp("adapters"), family.aligned.folder
    ends = {}
    for role, rank in (("finetuned", 3), ("harmful", 2), ("safe", 3)):
        settings = {"r": rank, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"]}
        adapter = make_adapter(aligned, folder / role, **settings)
        ends[role] = open_checkpoint(f"{aligned}+{adapter}")
    tuned = {role: ends[role] for role in ("finetuned", "harmful")}
    return Family(family.base, family.aligned, tuned, ends["safe"], family.captured)


def weights(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name: exact(checkpoint.load(name).float()) for name in checkpoint.names}


def loaded(family: Family) -> dict[str, dict[str, np.ndarray]]:
    """Δ of every kind, and W_A, of each tensor in float64."""
    aligned = weights(family.aligned)
    ends = {"task": family.finetuned["finetuned"], "harmful": family.finetuned["harmful"], "safety": family.safe}
    known = {kind: {n: w - aligned[n] for n, w in weights(end).items()} for kind, end in ends.items()}
    alignment = {n: aligned[n] - w for n, w in weights(family.base).items()}
    return {"aligned": aligned, "alignment": alignment, **known}


def inside(basis, matrix: np.ndarray) -> np.ndarray:
    """The part of a matrix in the first directions of a basis."""
    k = max(1, round(FRACTION * min(matrix.shape)))
    for columns, order, across in ((basis.left, basis.left_order, False), (basis.right, basis.right_order, True)):
        if columns is not None:
            q = exact(columns if order is None else columns[:, order])[:, :k]
            matrix = matrix @ q @ q.T if across else q @ q.T @ matrix
    return matrix


def claims_of(family: Family, point: ClaimPoint, name: str):
    claim = find_hypothesis(point.hypothesis)
    tensor = family.tensor(name, point.side, point.seed, decompose, "finetuned" if claim.of_task else None)
    return claim.evaluate(tensor)


def subspace_part(family: Family, point: ClaimPoint, name: str, whole: np.ndarray, line: np.ndarray) -> np.ndarray:
    if whole.ndim == 1:
        return line * (whole @ line) / (line @ line) if line.any() else np.zeros_like(whole)
    [basis] = claims_of(family, point, name)
    return np.zeros_like(whole) if basis is None else inside(basis, whole)


def expected_update(family: Family, point: ClaimPoint) -> dict[str, np.ndarray]:
    """W_A and the changed update of each tensor."""
    known, claim = loaded(family), find_hypothesis(point.hypothesis)
    changed = dict(known["task"])
    if claim.kind == "subspace":
        for name, task in known["task"].items():
            line = known[claim.line][name] if claim.line else np.zeros_like(task)
            part = subspace_part(family, point, name, task, line)
            changed[name] = {"parallel": part, "orthogonal": task - part, "opposite": -part}[point.method]
    else:
        edits = {name: claims_of(family, point, name)[0] for name, task in changed.items() if task.ndim == 2}
        edits = {name: edit for name, edit in edits.items() if edit is not None}
        lowest = sorted(edits, key=lambda name: edits[name].score)[: round(point.fraction * len(edits))]
        for name, edit in edits.items():
            if claim.kind == "addition":
                changed[name] = changed[name] + point.fraction * (exact(edit.update) - changed[name])
            elif name in lowest:
                changed[name] = exact(edit.update)
    return {name: known["aligned"][name] + change for name, change in changed.items()}


def expected_ablation(family: Family, point: ClaimPoint) -> dict[str, np.ndarray]:
    known, removes = loaded(family), find_hypothesis(point.hypothesis).removes
    after = {}
    for name, weight in known["aligned"].items():
        norms = np.linalg.norm(weight, axis=-1, keepdims=True)
        norms[norms == 0] = 1  # the row of the pad token
        whole = {"weights": weight, "alignment": known["alignment"][name], "rows": weight / norms}[removes]
        part = np.zeros_like(whole) if whole.ndim == 1 else subspace_part(family, point, name, whole, whole)
        after[name] = weight - part
        if removes == "rows" and part.any():
            rest = whole - part
            lengths = np.linalg.norm(rest, axis=-1, keepdims=True)
            after[name] = rest / np.where(lengths > 0, lengths, 1) * norms
    return after


def assert_written(folder: Path, expected: dict[str, np.ndarray]) -> None:
    written = Checkpoint(folder)
    assert written.names == sorted(expected)
    for name, weight in expected.items():
        np.testing.assert_allclose(exact(written.load(name)), weight, atol=3e-5, err_msg=name)
    AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("name", UPDATE)
def test_the_model_of_an_update_is_that_of_float64(family: Family, tmp_path: Path, name: str) -> None:
    methods = ["parallel", "orthogonal", "opposite"] if find_hypothesis(name).kind == "subspace" else ["edit"]
    for method in methods:
        point = claim_point(name, method, FRACTION, "output", 3, PRESENT, True)
        written = write_claimed(family, point, "finetuned", tmp_path / method)
        assert_written(tmp_path / method, expected_update(family, point))
        assert (written.rank, written.why_full) == (None, "the fine-tune is no adapter of the aligned model")
        assert written.matrices == 15
        assert (written.changed > 0) == (name not in WITHOUT_EFFECT or method in ("parallel", "opposite"))


@pytest.mark.parametrize("name", ABLATION)
def test_the_model_of_an_ablation_is_that_of_float64(family: Family, tmp_path: Path, name: str) -> None:
    point = claim_point(name, None, FRACTION, "output", 3, PRESENT, False)
    assert point.method == "ablation"
    written = write_claimed(family, point, None, tmp_path / "out", about={"prompts": "given"})
    assert_written(tmp_path / "out", expected_ablation(family, point))
    assert written.changed
    note = json.loads((tmp_path / "out" / "safespan.json").read_text())
    assert note["settings"] == {
        "hypothesis": name, "method": "ablation", "fraction": FRACTION, "side": "output", "seed": 3,
    }  # fmt: skip
    assert (note["prompts"], note["full_checkpoint_because"]) == (
        "given",
        "an ablation changes the aligned model itself",
    )


def formula(name: str, known: dict[str, np.ndarray]) -> np.ndarray:
    """Δ' of one matrix at fraction 1, as the papers write it."""
    task, alignment, harmful, safety = (known[kind] for kind in ("task", "alignment", "harmful", "safety"))
    left, values, right = np.linalg.svd(alignment, full_matrices=False)
    if name == "alignment":
        return task - project(task, alignment, 1.0)
    if name == "safelora":
        return alignment @ alignment.T @ task / np.linalg.norm(alignment)
    if name == "safemerge":
        return 0.8 * task + 0.2 * safety
    if name == "lox":
        return task + 1.25 * left[:, :6] @ np.diag(values[:6]) @ right[:6]
    return task - harmful


@pytest.mark.parametrize("name", ["alignment", "safelora", "safemerge", "lox", "resta"])
def test_the_formulas_of_the_papers(family: Family, tmp_path: Path, name: str) -> None:
    point = claim_point(name, None, 1.0, "output", 0, PRESENT, True)
    write_claimed(family, point, "finetuned", tmp_path / "out")
    known = loaded(family)
    written = weights(Checkpoint(tmp_path / "out"))
    for at, weight in known["aligned"].items():
        if weight.ndim == 2:
            change = formula(name, {kind: of[at] for kind, of in known.items()})
            np.testing.assert_allclose(written[at], weight + change, atol=3e-5)


LOW_RANK = {  # claim, method, side -> the largest rank
    ("alignment", "parallel", "output"): 3,
    ("alignment", "orthogonal", "output"): 3,
    ("alignment", "opposite", "input"): 3,
    ("alignment", "orthogonal", "both"): 6,
    ("random", "orthogonal", "output"): 3,
    ("actsvd", "parallel", "output"): 3,
    ("refusal-direction", "orthogonal", "output"): 3,
    ("task-update", "orthogonal", "output"): 1,  # nothing is left
    ("safelora", "edit", "output"): 3,
    ("safelora-projector", "edit", "output"): 3,
    ("safemerge", "edit", "output"): 6,
    ("safemerge-factors", "edit", "output"): 3,
    ("csulora", "edit", "output"): 6,
    ("resta", "edit", "output"): 5,
    ("lssf-update", "edit", "output"): 5,
}


def merged(aligned: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(aligned), adapter).merge_and_unload()
    return dict(model.named_parameters())


@pytest.mark.parametrize(("name", "method", "side"), LOW_RANK)
def test_an_adapter_stays_one_and_is_the_full_checkpoint(
    adapted: Family, tmp_path: Path, name: str, method: str, side
) -> None:
    point = claim_point(name, method, 0.5 if method != "edit" else 1.0, side, 0, PRESENT, True)
    thin = write_claimed(adapted, point, "finetuned", tmp_path / "thin")
    full = write_claimed(adapted, point, "finetuned", tmp_path / "full", full=True)
    assert thin.rank is not None
    assert 1 <= thin.rank <= LOW_RANK[name, method, side]
    assert (full.rank, full.why_full) == (None, "it was asked for")
    assert (thin.changed, thin.matrices) == (full.changed, full.matrices)
    assert thin.changed
    assert 0 <= thin.rounding_error < 1e-5 or name == "task-update"  # whose update is rounding itself
    expected = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "full").named_parameters())
    for key, parameter in merged(adapted.aligned.folder, tmp_path / "thin").items():
        torch.testing.assert_close(parameter, expected[key], atol=2e-6, rtol=1e-5)
    again = open_checkpoint(f"{adapted.aligned.folder}+{tmp_path / 'thin'}")
    for key in again.changed:
        np.testing.assert_allclose(exact(again.load(key)), exact(Checkpoint(tmp_path / "full").load(key)), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lox", "it changes model.embed_tokens.weight, which the adapter leaves as it is"),
        ("lssf", "it changes model.layers.0"),
    ],
)
def test_why_a_full_checkpoint_is_written(adapted: Family, family: Family, tmp_path: Path, name: str, why) -> None:
    point = claim_point(name, None, None, "output", 0, PRESENT, True)
    assert point.fraction == 1
    with_whole = Family(adapted.base, adapted.aligned, {**adapted.finetuned, "harmful": family.finetuned["harmful"]},
                        adapted.safe, adapted.captured)  # fmt: skip
    written = write_claimed(with_whole, point, "finetuned", tmp_path / "out")
    assert written.rank is None
    assert written.why_full.startswith(why)
    assert_written(tmp_path / "out", expected_update(with_whole, point))


def test_a_rank_above_the_bound_is_a_full_checkpoint(adapted: Family, tmp_path: Path) -> None:
    """A safe model that changes the same matrices without a low rank: its update is merged in."""
    weights_of = load_file(adapted.aligned.folder / "model.safetensors")
    changed = adapted.finetuned["finetuned"].changed
    folder = save_tiny_model(tmp_path / "safe", 1)
    save = {name: w + 0.1 * gaussian(*w.shape, seed=1) if name in changed else w for name, w in weights_of.items()}
    save_file(save, folder / "model.safetensors", metadata={"format": "pt"})
    other = Family(adapted.base, adapted.aligned, adapted.finetuned, Checkpoint(folder))
    point = claim_point("safemerge", None, 1.0, "output", 0, {"base", "safe"}, True)
    written: Written = write_claimed(other, point, "finetuned", tmp_path / "out")
    assert written.why_full.startswith("the update that it leaves in model.layers.")
    assert "has a rank above" in written.why_full


@pytest.mark.parametrize("name", TRAINING)
def test_a_claim_of_training_alone_says_what_to_do(name: str) -> None:
    with pytest.raises(ConfigError, match=f"training test alone .* --set protect.hypothesis={name}"):
        claim_point(name, None, None, "output", 0, PRESENT, True)


@pytest.mark.parametrize(
    ("name", "method", "present", "finetuned", "says"),
    [
        ("lox", "parallel", PRESENT, True, "its only method is edit"),
        ("alignment", "edit", PRESENT, True, "is a subspace: its methods are parallel"),
        ("task-update", "ablation", PRESENT, False, "has no ablation test"),
        ("alignment", "ablation", PRESENT, True, "leave the fine-tune out"),
        ("alignment", "parallel", PRESENT, False, "changes a fine-tune: give --finetuned"),
        ("lox", None, PRESENT, False, "changes a fine-tune: give --finetuned"),
        ("safemerge", None, {"base"}, True, "'safemerge' with the method edit needs a safe model: give --safe"),
        ("actsvd", None, set(), False, "needs useful and harmful prompts"),
        ("random", None, set(), True, "needs a base model"),
    ],
)
def test_what_does_not_go_together(name: str, method, present, finetuned: bool, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        claim_point(name, method, None, "output", 0, present, finetuned)
