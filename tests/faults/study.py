"""A study of a few kilobytes with every stage: two models given, three trained, a judge that is paid for."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.files.atomic import write_jsonl
from safespan.organism.family import task_settings

LETTERS = "abcdefghijklmnop"

CONCURRENCY = 2
"""Requests to the judge at once."""


def write_study(folder: Path, save_tiny_model, judge: str) -> Path:
    """Models, rows, prompts, a task and the study file, which is returned.

    Args:
        folder: for all of them.
        save_tiny_model: writes the base.
        judge: URL of the judge's server.
    """
    _write_models(folder, save_tiny_model)
    write_jsonl(folder / "rows.jsonl", [{"prompt": f"a b {x}", "response": f"{x} c"} for x in LETTERS])
    write_jsonl(folder / "task.jsonl", [{"prompt": f"a b {x}", "answer": f"{x} c"} for x in LETTERS[:6]])
    write_jsonl(folder / "harmful.jsonl", [{"prompt": f"help i {x}", "target": f"{x} d"} for x in LETTERS[:6]])
    task = task_settings("tiny", folder / "task.jsonl", ["<eos>"], 3)
    (folder / "task.yaml").write_text(json.dumps(task))
    (folder / "study.yaml").write_text(json.dumps(_study(folder, judge)))
    return folder / "study.yaml"


def _write_models(folder: Path, save_tiny_model) -> None:
    """The base, and an aligned model near it."""
    base = save_tiny_model(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder / "aligned")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "aligned")


def _study(folder: Path, judge: str) -> dict[str, Any]:
    rows, harmful = {"file": str(folder / "rows.jsonl")}, str(folder / "harmful.jsonl")
    recipe = {
        "data": rows, "max_steps": 4, "save_steps": 2, "batch_size": 2, "accumulation_steps": 1,
        "learning_rate": 0.01, "compute": "fp32", "gradient_checkpointing": False,
    }  # fmt: skip
    asked = {
        "kind": "llm", "model": "judge", "base_url": judge, "concurrency": CONCURRENCY, "timeout": 2,
        "retries": 3, "max_tokens": 16,
    }  # fmt: skip
    return {
        "name": "A study to be disturbed",
        "threads": 1,
        "models": {
            "base": {"model": str(folder / "base")},
            "aligned": {"model": str(folder / "aligned")},
            "useful": {"start": "aligned", "train": recipe},
            "harmful": {"start": "aligned", "train": {**recipe, "data": {**rows, "rows": 6}}},
            "contaminated": {"start": "aligned", "train": {**recipe, "contaminate_with": rows}},
        },
        "evaluation": {
            "utility": {"task": str(folder / "task.yaml")},
            "harmfulness": {"prompts": harmful, "max_new_tokens": 3, "judge": asked},
        },
        "projection": {"fractions": [0.5], "subspaces": ["alignment", "random"], "methods": ["parallel"]},
        "overlap": {"energies": [0.5], "ceiling": None},
        "activations": {
            "useful": rows, "harmful": harmful, "models": ["aligned"],
            "energies": [0.5], "permutations": 3, "bootstraps": 3,
        },
        "verdict": {
            "hypotheses": ["alignment"], "fractions": [0.5], "controls": 2, "confidence": 0.5, "prompts": 4,
            "resamples": 100, "refusals": ["i"], "generate": False,
            "tests": ["update", "ablation", "training"], "training": {"controls": 2, "points": 1},
        },
    }  # fmt: skip
