"""A LoRA adapter on a tiny model, and folders that hold one beside other files."""

import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

PLAIN = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"]}


def make_adapter(base: Path, out: Path, rows: int | None = None, **settings) -> Path:
    """An adapter with every matrix random, and beside it the model with it merged, by peft.

    Args:
        rows: of the embedding that the base is given before; it is written too.
    """
    torch.manual_seed(1)
    whole = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        whole.resize_token_embeddings(rows)
        whole.save_pretrained(out / "resized")
    model = get_peft_model(whole, LoraConfig(**(settings or PLAIN)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(out / "adapter")
    model.merge_and_unload().save_pretrained(out / "merged")
    return out / "adapter"


def make_stray(base: Path, out: Path) -> tuple[Path, Path]:
    """A merged model with the files of its adapter left in its folder, and the same without them."""
    adapter = make_adapter(base, out)
    for path in base.iterdir():
        if "token" in path.name or "template" in path.name:
            shutil.copy(path, out / "merged")
    stray = shutil.copytree(out / "merged", out / "stray")
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, stray)
    return stray, out / "merged"
