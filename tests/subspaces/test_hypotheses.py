"""Every claim against its paper's formula in float64 NumPy."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claims import SHAPES, captured, claimed, gaussian, part, projector, tensor
from oracle import exact
from safespan.errors import HypothesisError
from safespan.projection.tensor import TensorProjection, directions
from safespan.subspaces import Basis, WeightMatrix, find_hypothesis, hypothesis, rank_of_fraction
from safespan.subspaces.bases import seeded
from safespan.subspaces.hypotheses.planted import planted_half
from safespan.subspaces.hypotheses.refusal_direction import early_layers, remark_on

SIZES = st.integers(1, 12)
SIDES = ["output", "input", "both"]
LEADING = {"alignment": "alignment", "safety": "safety", "harmful-update": "harmful"}
WRITER, READER, EMBEDDING = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.up_proj.weight", "wte.weight"


def singular(matrix: torch.Tensor, side: str, k: int) -> np.ndarray:
    left, _, right = np.linalg.svd(exact(matrix), full_matrices=False)
    return left[:, :k] if side == "output" else right[:k].T


def projected(delta: torch.Tensor, side: str, columns) -> np.ndarray:
    """Δ between the projectors on `columns(side)`."""
    result = exact(delta)
    if side != "input":
        result = projector(columns("output")) @ result
    return result if side == "output" else result @ projector(columns("input"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("claim", LEADING)
def test_leading_singular_vectors_of_an_update(claim, side, shape):
    update, delta = gaussian(*shape), gaussian(*shape, seed=1)
    basis = claimed(claim, side=side, **{LEADING[claim]: update})
    for k in range(1, min(shape) + 1):
        expected = projected(delta, side, lambda at, k=k: singular(update, at, k))
        np.testing.assert_allclose(part(basis, delta, k), expected, atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_random_k_takes_each_singular_vector_once_in_another_order(side):
    update = gaussian(9, 12)
    basis = claimed("random-k", side=side, alignment=update)
    ordered, _ = basis.in_order(basis.coefficients(update))
    for at, columns in (("output", ordered.left), ("input", ordered.right)):
        if columns is None:
            assert side not in (at, "both")
            continue
        matches = np.abs(singular(update, at, 9).T @ exact(columns))
        np.testing.assert_allclose(np.sort(matches, 0)[-1], np.ones(9), atol=1e-5)
        order = matches.argmax(0).tolist()
        assert sorted(order) == list(range(9))
        assert order != list(range(9))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", SIDES)
def test_random_is_the_turned_q_of_a_gaussian(side, shape):
    basis = claimed("random", side=side, seed=3, aligned=torch.zeros(shape))
    for at, columns, (rows, others) in (("output", basis.left, shape), ("input", basis.right, shape[::-1])):
        if columns is None:
            assert side not in (at, "both")
            continue
        rank = min(rows, others)
        drawn = torch.randn(rows, rank, generator=seeded(3, "random", f"{rows} x {rank}"))
        q, r = np.linalg.qr(exact(drawn))
        turn = seeded(3, "random", f"w/{at}")
        order = torch.randperm(rows, generator=turn).numpy()
        signs = 2 * torch.randint(0, 2, (rows, 1), generator=turn).numpy() - 1
        np.testing.assert_allclose(exact(columns), signs * (q * np.sign(np.diag(r)))[order], atol=2e-5)


def c_of(alignment: torch.Tensor) -> np.ndarray:
    norm = np.linalg.norm(exact(alignment))
    return exact(alignment) @ exact(alignment).T / norm if norm else np.zeros([len(alignment)] * 2)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float((x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y)))


@settings(max_examples=40)
@given(SIZES, SIZES, st.integers(0, 99), st.sampled_from([1e-4, 1.0, 100.0]))
def test_safe_lora_and_safemerge(m, n, seed, scale):
    alignment, task, safe = scale * gaussian(m, n, seed=seed), *(gaussian(m, n, seed=seed + i) for i in (100, 200))
    mapped = c_of(alignment) @ exact(task)
    edit, merged = (claimed(c, alignment=alignment, task=task, safety=safe) for c in ("safelora", "safemerge"))
    np.testing.assert_allclose(exact(edit.update), mapped, atol=1e-5 * np.abs(mapped).max())
    np.testing.assert_allclose(exact(merged.update), 0.8 * exact(task) + 0.2 * exact(safe), atol=1e-6)
    assert edit.score == pytest.approx(cosine(exact(task), mapped), abs=1e-5)
    assert merged.score == pytest.approx(edit.score, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_safe_loras_true_projector_holds_nine_tenths_of_the_energy(shape):
    alignment, task = gaussian(*shape), gaussian(*shape, seed=1)
    left, values, _ = np.linalg.svd(exact(alignment), full_matrices=False)
    k = next(k for k in range(1, len(values) + 1) if (values[:k] ** 2).sum() >= 0.9 * (values**2).sum())
    assert k < min(shape) or min(shape) < 5
    edit, mapped = claimed("safelora-projector", alignment=alignment, task=task), projector(left[:, :k]) @ exact(task)
    np.testing.assert_allclose(exact(edit.update), mapped, atol=1e-5)
    assert edit.score == pytest.approx(cosine(exact(task), mapped), abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_lox_adds_five_quarters_of_the_six_leading_directions(shape):
    alignment, task = gaussian(*shape), gaussian(*shape, seed=1)
    left, values, right = np.linalg.svd(exact(alignment), full_matrices=False)
    expected = exact(task) + 1.25 * (left[:, :6] * values[:6]) @ right[:6]
    np.testing.assert_allclose(exact(claimed("lox", alignment=alignment, task=task).update), expected, atol=1e-5)


@pytest.mark.parametrize("claim", ["alignment", "random-k", "safelora", "safelora-projector", "safemerge", "lox"])
def test_a_zero_alignment_update_says_nothing(claim):
    task = gaussian(5, 8)
    nothing = claimed(claim, alignment=torch.zeros(5, 8), task=task, safety=task / 4)
    if isinstance(nothing, Basis):
        assert nothing.left.shape == (5, 0)
        return
    expected = {"lox": task, "safemerge": 0.85 * task}.get(claim, torch.zeros(5, 8))
    torch.testing.assert_close(nothing.update, expected, atol=1e-6, rtol=0)
    assert nothing.score == 0


@pytest.mark.parametrize(
    "claim", ["alignment", "random", "random-k", "safelora", "safelora-projector", "lox", "planted"]
)
def test_a_stack_of_experts_is_so_many_matrices(claim):
    alignment, task = gaussian(3, 6, 8), gaussian(3, 6, 8, seed=1)
    claims = find_hypothesis(claim).evaluate(tensor(alignment=alignment, task=task))
    assert len(claims) == 3
    results = []
    for expert, result in enumerate(claims):
        alone = claimed(claim, name=f"w[{expert}]", alignment=alignment[expert], task=task[expert])
        if isinstance(result, Basis):
            assert torch.equal(result.in_order(result.left.T)[0].left, alone.in_order(alone.left.T)[0].left)
            results.append(result.in_order(result.left.T)[0].left)
        else:
            assert torch.equal(result.update, alone.update)
            assert result.score == alone.score
            results.append(result.update)
    assert not torch.equal(results[0], results[1])
    assert find_hypothesis(claim).evaluate(tensor(alignment=torch.ones(4), task=torch.ones(4))) == []


# --- claims that read activations -------------------------------------------------------------------------------------

LAYERS, D = 5, 8
SCORES = {1: (-1.0, 2.0, 0.02), 2: (-3.0, 0.5, 0.09), 3: (-2.0, 1.0, 0.03), 4: (-9.0, -0.1, 0.05)}
"""Layer -> bypass, induce, divergence: of those within the bounds, layer 2 leaves the fewest refusals."""


def candidates(folder, scores=SCORES, **directions: torch.Tensor):
    """A file of candidates; other directions than random ones by `layer_N`."""
    known = {layer: directions.get(f"layer_{layer}", 3 * gaussian(D, seed=layer)) for layer in scores}
    rows = {f"refusal__direction__{layer}": direction for layer, direction in known.items()}
    rows |= {f"refusal__scores__{layer}": torch.tensor(measured).double() for layer, measured in scores.items()}
    return captured(folder, **rows), {layer: exact(direction) for layer, direction in known.items()}


def test_the_refusal_direction_is_of_the_layer_whose_ablation_leaves_the_fewest_refusals(tmp_path):
    kept, known = candidates(tmp_path)
    expected = known[2] / np.linalg.norm(known[2])
    for name, shape, side in ((WRITER, (D, 12), "left"), (EMBEDDING, (30, D), "right")):
        basis = claimed("refusal-direction", name=name, captured=kept, aligned=torch.zeros(shape))
        assert getattr(basis, "right" if side == "left" else "left") is None
        np.testing.assert_allclose(exact(getattr(basis, side)), expected[:, None], atol=1e-6)
    for claim in ("refusal-direction", "refusal-directions"):
        assert claimed(claim, name=READER, captured=kept, aligned=torch.zeros(12, D)) is None


@pytest.mark.parametrize("at_the_bound", [(-3.0, 0.0, 0.09), (-3.0, 0.5, 0.1)])
def test_a_layer_at_a_bound_of_the_paper_is_not_taken(tmp_path, at_the_bound):
    kept, known = candidates(tmp_path, SCORES | {2: at_the_bound})
    basis = claimed("refusal-direction", name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
    np.testing.assert_allclose(exact(basis.left)[:, 0], known[3] / np.linalg.norm(known[3]), atol=1e-6)


def test_where_no_layer_is_within_the_bounds_the_fewest_refusals_decide_and_a_remark_says_so(tmp_path):
    kept, known = candidates(tmp_path, {1: (-2.0, -0.5, 0.02), 2: (-4.0, 0.5, 0.3)})
    given = {"name": WRITER, "captured": kept, "aligned": torch.zeros(D, 12)}
    taken = exact(claimed("refusal-direction", **given).left)[:, 0]
    np.testing.assert_allclose(taken, known[2] / np.linalg.norm(known[2]), atol=1e-6)
    remark = find_hypothesis("refusal-direction").remark(kept)
    assert "below 0.1; layer 2, whose ablation leaves the fewest refusals, is taken, with 0.5 and 0.3" in remark
    assert "\n" not in remark
    first = exact(claimed("refusal-directions", **given).left)[:, 0]
    np.testing.assert_allclose(first, known[2] / np.linalg.norm(known[2]), atol=1e-6)


def test_without_candidates_there_is_no_refusal_direction(tmp_path):
    kept = captured(tmp_path, residual__useful__1=gaussian(4, D))
    for claim in ("refusal-direction", "refusal-directions"):
        assert claimed(claim, name=WRITER, captured=kept, aligned=torch.zeros(D, 12)) is None
    assert "refuses fewer than two of the harmful prompts" in remark_on({})


def test_refusal_directions_span_all_layers_those_within_the_bounds_first(tmp_path):
    kept, known = candidates(tmp_path, layer_1=gaussian(D, seed=3) * 0.5)  # adds nothing to layer 3
    columns = exact(claimed("refusal-directions", name=WRITER, captured=kept, aligned=torch.zeros(D, 12)).left)
    assert columns.shape == (D, 3)
    for k, taken in ((1, [2]), (2, [2, 3]), (3, [2, 3, 4])):
        spanned = np.linalg.qr(np.stack([known[layer] for layer in taken], 1))[0]
        np.testing.assert_allclose(projector(columns[:, :k]), projector(spanned), atol=1e-5)


def test_directions_come_from_the_layers_before_four_fifths_of_the_depth():
    for total in range(1, 100):
        expected = [layer for layer in range(1, total + 1) if Fraction(layer, total) < Fraction(4, 5)]
        assert list(early_layers(total)) == expected


@pytest.mark.parametrize("prompts", [3, 40])
@pytest.mark.parametrize("shape", [(6, 15), (15, 6), (9, 9)])
def test_actsvd_is_the_svd_of_the_outputs(tmp_path, shape, prompts):
    weight, inputs, delta = gaussian(*shape), gaussian(prompts, shape[1], seed=1), gaussian(*shape, seed=2)
    kept = captured(tmp_path, **{f"inputs__harmful__{READER}": inputs})
    basis = claimed("actsvd", name=READER, captured=kept, aligned=weight)
    left = np.linalg.svd(exact(weight) @ exact(inputs).T, full_matrices=False)[0]
    for k in range(1, min(*shape, prompts) + 1):
        np.testing.assert_allclose(part(basis, delta, k), projector(left[:, :k]) @ exact(delta), atol=1e-5)
    # A fraction is one of min(m, n), and all there is where that is more than the prompts span.
    projection = TensorProjection(delta, directions(tensor(name=READER, captured=kept, aligned=weight), "actsvd"))
    half = min(round(min(shape) / 2), prompts)
    np.testing.assert_allclose(
        projection.parallel(0.5).double().numpy(), projector(left[:, :half]) @ exact(delta), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(9, 15), (15, 6), (9, 9)])
def test_actsvd_orthogonal_leaves_out_what_utility_needs(tmp_path, shape):
    weight, delta = gaussian(*shape), gaussian(*shape, seed=2)
    inputs = {
        kind: gaussian(40, shape[1], seed=seed) * torch.linspace(2, 0.1, shape[1])
        for seed, kind in enumerate(("useful", "harmful"))
    }
    basis = claimed(
        "actsvd-orthogonal",
        name=READER,
        captured=captured(tmp_path, **{f"inputs__{kind}__{READER}": rows for kind, rows in inputs.items()}),
        aligned=weight,
    )
    useful, harmful = (exact(weight) @ exact(inputs[kind]).T for kind in ("useful", "harmful"))
    left, values, _ = np.linalg.svd(useful, full_matrices=False)
    k = int((np.cumsum(values**2) < 0.9 * (values**2).sum()).sum()) + 1
    rest = harmful - projector(left[:, :k]) @ harmful
    expected, sizes, _ = np.linalg.svd(rest, full_matrices=False)
    rank = int((sizes > 1e-6 * sizes[0]).sum())
    assert 0 < rank < min(shape)
    np.testing.assert_allclose(left[:, :k].T @ exact(basis.left[:, :rank]), 0, atol=1e-5)
    for at in range(1, rank + 1):
        np.testing.assert_allclose(part(basis, delta, at), projector(expected[:, :at]) @ exact(delta), atol=1e-5)


@pytest.mark.parametrize("prompts", [4, 40])
def test_the_activation_null_space_comes_first(tmp_path, prompts):
    inputs = gaussian(prompts, 9) * torch.logspace(0, -1, 9)
    basis = claimed("activation-null", captured=captured(tmp_path, inputs__useful__w=inputs), aligned=gaussian(6, 9))
    assert basis.left is None
    assert basis.right.shape == (9, 9)
    along = (exact(inputs) @ exact(basis.right)) ** 2
    values = np.linalg.svd(exact(inputs))[1]
    expected = np.sort(np.concatenate([values**2, np.zeros(9 - len(values))]))
    np.testing.assert_allclose(along.sum(0), expected, atol=1e-5)
    update = gaussian(6, 9, seed=1)
    null = 9 - len(values)
    if null:  # as AlphaEdit proves: what the layer makes of the prompts stays as it is
        np.testing.assert_allclose(part(basis, update, null) @ exact(inputs).T, 0, atol=1e-5)


@pytest.mark.parametrize("prompts", [3, 40])
@pytest.mark.parametrize("shape", [(6, 15), (15, 6), (9, 9)])
def test_guardspace_is_the_svd_of_the_inputs_and_outside_of_it_outputs_stay(tmp_path, shape, prompts):
    inputs, delta = gaussian(prompts, shape[1], seed=1), gaussian(*shape, seed=2)
    kept = captured(tmp_path, **{f"inputs__harmful__{READER}": inputs})
    basis = claimed("guardspace", name=READER, captured=kept, aligned=gaussian(*shape))
    right = np.linalg.svd(exact(inputs), full_matrices=False)[2].T
    assert basis.left is None
    assert basis.right.shape == right.shape
    for k in range(1, right.shape[1] + 1):
        np.testing.assert_allclose(part(basis, delta, k), exact(delta) @ projector(right[:, :k]), atol=1e-5)
    rest = exact(delta) - part(basis, delta, right.shape[1])
    np.testing.assert_allclose(rest @ exact(inputs).T, 0, atol=2e-5)


@pytest.mark.parametrize("claim", ["actsvd", "actsvd-orthogonal", "activation-null", "guardspace"])
def test_a_matrix_whose_inputs_were_not_captured_has_no_claim(tmp_path, claim):
    kept = captured(tmp_path, inputs__useful__other=gaussian(4, 9), inputs__harmful__other=gaussian(4, 9))
    assert claimed(claim, name=READER, captured=kept, aligned=gaussian(6, 9)) is None


@pytest.mark.parametrize("claim", ["actsvd", "actsvd-orthogonal", "guardspace"])
@pytest.mark.parametrize("name", ["lm_head.weight", "embed_out.weight"])
def test_claims_about_activations_in_blocks_leave_the_output_head_out(tmp_path, claim, name):
    rows = {f"inputs__{kind}__{at}": gaussian(4, 9) for kind in ("useful", "harmful") for at in (name, READER)}
    kept = captured(tmp_path, **rows)
    assert claimed(claim, name=name, captured=kept, aligned=gaussian(6, 9)) is None
    assert claimed(claim, name=READER, captured=kept, aligned=gaussian(6, 9)) is not None


@settings(max_examples=30)
@given(st.integers(2, 30), SIZES, st.integers(0, 9))
def test_the_planted_half_is_a_random_one_of_no_more_directions_than_inputs(m, n, seed):
    planted, k = exact(claimed("planted", name="x", seed=seed, aligned=torch.zeros(m, n)).left), min(m // 2, n)
    assert planted.shape == (m, k)
    np.testing.assert_allclose(planted.T @ planted, np.eye(k), atol=1e-5)
    assert np.array_equal(planted, exact(planted_half((m, n), seed, "x")))
    drawn = torch.randn(m, k, generator=seeded(seed, "planted", "x"))
    np.testing.assert_allclose(projector(np.linalg.qr(exact(drawn))[0]), projector(planted), atol=1e-4)
    assert min(k, rank_of_fraction(1.0, (m, n))) == k  # fraction 1 is all of it


READS = {
    "alignment": ("base", lambda matrix: matrix.alignment),
    "safety": ("safe", lambda matrix: matrix.safety),
    "harmful": ("harmful", lambda matrix: matrix.harmful),
    "spectrum": ("base", lambda matrix: matrix.spectrum("alignment")),
    "inputs": ("prompts", lambda matrix: matrix.inputs("useful")),
    "residual_stream": ("prompts", lambda matrix: matrix.residual_stream("useful")),
    "refusal_candidates": ("prompts", lambda matrix: matrix.refusal_candidates()),
    "factors": ("safe", lambda matrix: matrix.factors("safety")),
    "task": ("task", lambda matrix: matrix.task),
    "spectrum of the task": ("task", lambda matrix: matrix.spectrum("task")),
    "factors of the task": ("task", lambda matrix: matrix.factors("task")),
}


@pytest.mark.parametrize("read", READS)
def test_what_is_read_must_be_declared(tmp_path, read):
    need, reads = READS[read]
    given = {kind: gaussian(4, 5) for kind in ("aligned", "task", "alignment", "safety", "harmful")}
    there = tensor(captured=captured(tmp_path, inputs__useful__w=gaussian(3, 5)), **given)

    def claim(matrix: WeightMatrix) -> None:
        _ = matrix.aligned  # there in any case
        reads(matrix)

    make = {"claim": "c", "paper": "p"}
    assert hypothesis("mine", needs=[need], **make)(claim).evaluate(there) == [None]
    others = sorted({"base", "safe", "harmful", "prompts", "task"} - {need})
    for declared, words in (([], "no needs"), (others, ".*".join(others))):
        with pytest.raises(HypothesisError, match=f"'mine', tensor w: it reads what needs '{need}'.*{words}"):
            hypothesis("mine", needs=declared, **make)(claim).evaluate(there)


@pytest.mark.parametrize("reads", [lambda matrix: matrix.task, lambda matrix: matrix.spectrum("luck")])
def test_what_is_not_there_is_said(reads):
    claim = hypothesis("mine", claim="c", paper="p", needs=["task"])(reads)
    with pytest.raises(HypothesisError, match="tensor w: it reads '(task|luck)', and there is aligned, alignment"):
        claim.evaluate(tensor(alignment=gaussian(4, 5), aligned=gaussian(4, 5)))
