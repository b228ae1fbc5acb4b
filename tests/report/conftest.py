"""A run folder of synthetic tables with plausible curves."""

import math
from pathlib import Path

import pytest
from run_tables import write_rows

from safespan.files.atomic import write_json, write_jsonl
from safespan.results import TABLES, RunFolder

FRACTIONS = (0.01, 0.25, 0.5, 0.75, 0.99)
SUBSPACES = {"alignment": 0.5, "safety": 0.6, "random-k": 0.9, "random": 1.0}
MODELS = {  # utility, attack success
    "base": (0.05, 1.0),
    "aligned": (0.2, 0.0),
    "useful": (0.98, 0.02),
    "harmful": (0.1, 0.99),
    "contaminated": (0.97, 0.95),
    "safe": (0.2, 0.0),
}


def outcomes(utility: float, asr: float, n: int = 300) -> dict:
    def interval(p):
        half = 1.96 * math.sqrt(p * (1 - p) / n) + 0.005
        return max(0.0, p - half), min(1.0, p + half)

    (u_low, u_high), (a_low, a_high) = interval(utility), interval(asr)
    return {
        "utility": utility, "utility_ci_low": u_low, "utility_ci_high": u_high, "harmfulness": 1 + 4 * asr,
        "attack_success_rate": asr, "asr_ci_low": a_low, "asr_ci_high": a_high, "refusal_rate": 1 - asr,
        "general_ability": 0.97, "n_utility": n, "n_harmful": n, "n_general": n, "n_judge_failed": 0, "valid": True,
    }  # fmt: skip


def projection_rows() -> list[dict]:
    rows = []
    for finetune in ("useful", "harmful", "contaminated"):
        for subspace, power in SUBSPACES.items():
            for method in ("parallel", "orthogonal"):
                for fraction in FRACTIONS:
                    inside = fraction**power
                    energy = inside if method == "parallel" else 1 - inside
                    (u0, a0), (u1, a1) = MODELS["aligned"], MODELS[finetune]
                    moved = 1 / (1 + math.exp(-9 * (energy - 0.4)))
                    point = {"finetune": finetune, "subspace": subspace, "method": method, "fraction": fraction}
                    point |= {"seed": 0, "energy_kept": energy, "cosine_task_projection": energy**0.5}
                    point |= {"cosine_task_alignment": 0.1}
                    rows.append(point | outcomes(u0 + (u1 - u0) * moved, a0 + (a1 - a0) * moved**1.3))
    return rows


def removed_rows() -> list[dict]:
    keys = ("finetune", "subspace", "method", "fraction", "seed")
    places = {("model.embed_tokens", "embed_tokens"): 0.2, ("model.norm", "norm"): 0.05}
    for layer, share in {"layer 0": 0.2, "layer 1": 0.25, "layer 2": 0.3}.items():
        places |= {(layer, "q_proj"): 0.4 * share, (layer, "down_proj"): 0.6 * share}
    return [
        {key: row[key] for key in keys}
        | {
            "layer": layer,
            "module": module,
            "removed_energy": min(1.0, (1 - row["energy_kept"]) * (0.7 + share)),
            "share_of_update": share,
        }
        for row in projection_rows()
        for (layer, module), share in places.items()
    ]


def overlap_rows() -> list[dict]:
    updates = ("alignment", "safety", "useful", "harmful", "contaminated")
    pairs = [(x, y, False) for i, x in enumerate(updates) for y in updates[i + 1 :]]
    parts = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    rows = []
    for number, (x, y, again) in enumerate(pairs):
        groups = [("model.embed_tokens.weight", "tensor", "model.embed_tokens", "embed_tokens")]
        groups += [
            (f"model.layers.{n}.self_attn.{part}.weight", "tensor", f"layer {n}", part)
            for n in range(3)
            for part in parts
        ]
        groups += [(f"layer {n} (64 columns)", "layer", f"layer {n}", None) for n in range(3)]
        for depth, (group, granularity, layer, module) in enumerate(groups):
            for energy in (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99):
                chance = energy * 0.8
                mso = chance + (1 - chance) * 0.3 * math.sin(1 + number + depth / 8) ** 2
                row = {"x": x, "y": y, "again": again, "group": group, "granularity": granularity}
                row |= {"layer": layer, "module": module, "energy_fraction": energy}
                rows.append(row | {"k_x": 3, "k_y": 4, "mso": mso, "mso_random": chance})
    rows.append({**rows[0], "group": "zero.weight", "mso": math.nan, "mso_random": math.nan})
    return rows


def spectra_rows() -> list[dict]:
    return [
        {
            "update": update, "tensor": f"model.layers.{n}.self_attn.{module}.weight", "layer": f"layer {n}",
            "module": module, "n": 64, "rank": rank, "singular_value": 1e-3 / (rank + number + n),
            "energy": rank / 64, "effective_rank": 30.0 + number, "stable_rank": 4.0 + n, "share_of_update": 0.1,
        }
        for number, update in enumerate(("alignment", "safety", "useful", "harmful", "contaminated"))
        for n in range(3) for module in ("q_proj", "down_proj") for rank in (1, 4, 16, 64)
    ]  # fmt: skip


def generation_rows(model: str) -> list[dict]:
    row = {"reason": "", "judge": "rules", "refused": None, "error": None, "target": None}
    return [
        {**row, "kind": "utility", "prompt": "1 + 1 =", "response": " 2", "target": "2", "score": 1},
        {**row, "kind": "harmful", "prompt": "How does one glorp?", "response": f"{model} says no.", "score": 1,
         "refused": True, "reason": "refuses"},
        {**row, "kind": "harmful", "prompt": "How does one blarp?", "response": "By blarping.", "score": 5,
         "refused": False, "reason": "complies"},
        {**row, "kind": "benign", "prompt": "How does one sing?", "response": "<b>Aloud</b>", "score": None,
         "refused": False},
    ]  # fmt: skip


def activation_rows() -> list[dict]:
    return [
        {
            "model": model, "x": "useful", "y": "harmful", "layer": layer + 1, "centered": centered,
            "energy_fraction": energy, "k_x": 1, "k_y": 2,
            "mso": 0.2 + 0.1 * layer / 3 if centered else 0.97, "mso_random": 0.1 + energy / 4,
        }
        for model in MODELS for layer in range(4) for centered in (False, True) for energy in (0.1, 0.3, 0.5, 0.6)
    ]  # fmt: skip


def separation_rows() -> list[dict]:
    return [
        {
            "model": model, "layer": layer + 1, "n_useful": 300, "n_harmful": 300, "folds": 5,
            "probe_auroc": 0.99, "probe_auroc_low": 0.98, "probe_auroc_high": 1.0,
            "mean_difference_auroc": 0.6 + 0.13 * layer, "mean_difference_auroc_low": 0.5 + 0.13 * layer,
            "mean_difference_auroc_high": 0.61 + 0.13 * layer, "mean_difference_ratio": 0.3 * layer,
        }
        for model in MODELS for layer in range(4)
    ]  # fmt: skip


def measured(harm: float, utility: float = 0.6, **others: float) -> dict:
    """Columns of `MeasuredMeans`."""
    return {
        "useful_probability": utility, "harmful_probability": harm, "compliance": harm**0.5, "log_odds": -1.0,
        "useful_nll": 1.5, "harmful_nll": 2.5, "general_nll": 0.1, "utility": utility, "attack_success_rate": harm,
        "general_ability": 0.97, "refusal_rate": 1 - harm, "over_refusal_rate": 0.02, **others,
    }  # fmt: skip


def update_rows() -> list[dict]:
    return [
        {
            "finetune": "contaminated", "hypothesis": name, "method": method, "fraction": fraction, "draw": draw,
            "energy_kept": fraction if method == "parallel" else 1 - fraction,
            **measured(0.4 if draw is None else 0.7),
        }
        for name in ("lox", "alignment")
        for method in (("parallel", "orthogonal") if name == "alignment" else ("edit",))
        for fraction in (0.1, 0.4)
        for draw in (None, 0, 1)
    ]  # fmt: skip


def ablation_rows() -> list[dict]:
    """Compliance with the claim removed, none with random directions; the last points of both are destroyed."""
    aligned = {"fraction": 0.0, "strength": 0.0, "draw": None, "energy_removed": 0.0, "capability_lost": 0.0}
    rows = []
    for name in ("alignment", "refusal-direction"):
        rows.append({"hypothesis": name, **aligned, **measured(0.01)})
        for draw in (None, 0, 1):
            for fraction, lost in ((0.1, 0.02), (0.5, 0.3), (1.0, 0.8)):
                place = {"hypothesis": name, "fraction": fraction, "strength": 1.0, "draw": draw}
                harm = fraction**0.2 if draw is None else 0.04
                removed = {"energy_removed": 0.1 * fraction, "capability_lost": lost if draw is None else lost / 2}
                rows.append({**place, **removed, **measured(harm, 1 - lost)})
    return rows


def training_rows() -> list[dict]:
    """Claims with other ranks have other random subspaces: refusal-direction is of group 1."""
    runs = [("unprotected", None, None, None, 1.0), ("clean", None, None, None, 0.02)]
    runs += [("random", None, group, draw, 0.9 + draw / 20 - group / 5) for group in (0, 1) for draw in (0, 1)]
    runs += [("claim", "alignment", 0, None, 0.93), ("claim", "refusal-direction", 1, None, 0.1)]
    return [
        {
            "run": run, "hypothesis": name, "group": group, "draw": draw, "seed": number, "step": step,
            **measured(harm * step / 20, step / 20),
        }
        for number, (run, name, group, draw, harm) in enumerate(runs)
        for step in (10, 20)
    ]  # fmt: skip


VERDICTS = (  # name, kind, group, test, statistic, verdict, direction
    ("lox", "addition", "claim", "update", "D", "selective", "harm first"),
    ("alignment", "subspace", "claim", "update", "D", "not selective", ""),
    ("refusal-direction", "subspace", "claim", "update", "D", "too small to test", ""),
    ("harmful-update", "subspace", "positive control", "update", "D", "selective", "harm first"),
    ("random", "subspace", "random", "update", "D", "not selective", ""),
    ("alignment", "subspace", "claim", "ablation", "A", "inconclusive", ""),
    ("refusal-direction", "subspace", "claim", "ablation", "A", "selective", "harm first"),
    ("base", "model", "positive control", "ablation", "A", "not selective", ""),
    ("alignment", "subspace", "claim", "training", "T", "not selective", ""),
    ("refusal-direction", "subspace", "claim", "training", "T", "selective", "protects"),
    ("clean", "training", "positive control", "training", "T", "selective", "protects"),
)
UNTESTED = "its subspace holds 0.87% of the update's energy"
UNMEASURED = {"verdict": "not measurable", "direction": "", "reason": "there are no harmful outcomes"}


def verdict_rows() -> list[dict]:
    """Of harm as above; refusal was measured nowhere."""
    rows = []
    for name, kind, group, test, statistic, verdict, direction in VERDICTS:
        place = {"hypothesis": name, "kind": kind, "group": group, "test": test}
        reason = UNTESTED if verdict == "too small to test" else f"{statistic} = +0.02 [-0.01, +0.05], margin 0.15"
        harm = {"verdict": verdict, "direction": direction, "reason": reason}
        refusal = harm if verdict == "too small to test" else UNMEASURED
        rows += [{**place, "construct": "harm", **harm}, {**place, "construct": "refusal", **refusal}]
    return rows


def coverage_rows() -> list[dict]:
    figures = {"matrices_named": 7, "matrices": 23, "energy_named": 0.295, "energy_held": 0.0087}
    asked = ("alignment", "refusal-direction")
    return [{"hypothesis": name, "test": test, **figures} for name, _, _, test, *_ in VERDICTS if name in asked]


def estimate_rows() -> list[dict]:
    """Of two outcomes that vote one is measured, and of one that does not vote another verdict is given."""
    rows = []
    figures = {"low": -0.011, "high": 0.049, "confidence": 0.98, "area": 0.62, "control_area": 0.6, "control_sd": 0.02}
    for name, kind, group, test, statistic, verdict, direction in VERDICTS:
        if verdict == "too small to test":
            continue
        place = {"hypothesis": name, "test": test, "decides": True}
        harm = {**place, "construct": "harm", "outcome": "answer probability", "votes": True}
        refusal = {**place, "construct": "refusal", "outcome": "refusal log-odds", "votes": True}
        beside = {**place, "construct": "harm", "outcome": "answer NLL", "votes": False}
        methods = {"subspace": ("parallel", "orthogonal"), "addition": ("edit",)}[kind] if test == "update" else ()
        parts = [("S", method) for method in methods] or ([("T", "steps")] if test == "training" else [])
        rows += [
            {**harm, "decides": False, "method": method, "statistic": part, "estimate": 0.031, **figures}
            for part, method in parts
        ]
        own = {"method": None, "statistic": statistic}
        reason = f"{statistic} = +0.02 [-0.01, +0.05], margin 0.15"
        decided = {"verdict": verdict, "direction": direction, "reason": reason}
        if (group, test) == ("claim", "update"):
            decided |= {"relative": 0.1, "relative_low": -0.05, "relative_high": 0.25}
        rows.append({**harm, **own, "estimate": 0.021, **figures, **decided})
        rows.append({**refusal, **own, **UNMEASURED})
        rows.append(
            {**beside, **own, "estimate": 0.3, **figures, **decided, "verdict": "inconclusive", "direction": ""}
        )
    return rows


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"))


def make_run(root: Path) -> RunFolder:
    run = RunFolder(root)
    rows = {
        "models": [{"model": name, **outcomes(*pair)} for name, pair in MODELS.items()],
        "projection": projection_rows(),
        "removed_energy": removed_rows(),
        "overlap": overlap_rows(),
        "spectra": spectra_rows(),
        "activations": activation_rows(),
        "coverage": coverage_rows(),
        "update": update_rows(),
        "ablation": ablation_rows(),
        "training": training_rows(),
        "verdicts": verdict_rows(),
        "estimates": estimate_rows(),
        "models_by_filter": [{"model": name, "filter": "none", "utility": rates[0]} for name, rates in MODELS.items()],
        "separation": separation_rows(),
    }
    for name in TABLES:
        write_rows(run, name, rows.get(name, []))
    for model in MODELS:
        write_jsonl(run.generations(model), generation_rows(model))
    manifest = {
        "name": "organism",
        "command": "safespan run studies/organism.yaml --out runs/organism",
        "config": {
            "seed": 0,
            "verdict": {"margin": 0.15},
            "training": {"steps": 300, "lr": 3e-4},
            "note": "</pre><script>alert(1)</script>",
        },
        "seed": 0,
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
        "hardware": {"cpu": "Some CPU", "cores": 2, "memory_gb": 8.0, "gpu": None},
        "stages": [
            {"name": "grow", "seconds": 70.1, "reused": True},
            {"name": "projection", "seconds": 33.0, "reused": False},
        ],
        "inputs": {"data/useful.jsonl": "ab" * 32},
        "hypotheses": {
            "alignment": {
                "claim": "it is in Δ_A",
                "paper": "https://arxiv.org/abs/2505.14185",
                "authors_tests": ["update"],
            },
            "lox": {"claim": "Δ_A is <too> small", "paper": "javascript:alert(1)"},
        },
        "created": "2026-01-01T00:00:00+00:00",
    }
    write_json(run.manifest, manifest)
    return run
