"""Checkpoints, adapters, model folders and GGUF files that are broken, or lie."""

import json
import os
import shutil
import struct
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import numpy as np

from fuzz.mutations import TEXTS, broken_bytes, broken_json, json_text

SHAPES = {"model.layers.0.q_proj.weight": [4, 6], "model.embed_tokens.weight": [5, 4], "model.norm.weight": [4]}
_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "C64", "F4", "f32", "")


def safetensors_header(shapes: dict[str, list[int]]) -> tuple[dict[str, Any], bytes]:
    """Header and data of a valid file in float32."""
    header, data = {}, b""
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        part = (np.arange(count, dtype="<f4") + 1).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    return header, data


def safetensors_bytes(random: Random, shapes: dict[str, list[int]]) -> bytes:
    """A file that is valid, or lies in its header, its length or its data."""
    header, data = safetensors_header(shapes)
    kind = random.randrange(14)
    one = header[random.choice(sorted(header))]
    if kind == 0:
        one["dtype"] = random.choice(_DTYPES)
    elif kind == 1:  # overlapping, reversed, beyond the end, with a hole
        start, end = random.choice(
            ((0, 16), (16, 0), (0, 2**40), (2**63, 2**64), (len(data), len(data) + 96), (4, 100))
        )
        one["data_offsets"] = [start, end]
    elif kind == 2:
        one["shape"] = random.choice(([2**32, 2**32], [0, 6], [], [24], [-4, -6], [2**63], [1] * 2000, [4, 6, 1, 1]))
    elif kind <= 5:
        header = broken_json(random, {**header, "__metadata__": {"format": "pt"}})
    elif kind == 6:
        value = random.choice((float("nan"), float("inf"), 3e38, 1e-40))
        data = np.full(len(data) // 4, value, dtype="<f4").tobytes()
    text = json_text(random, header)
    length = random.choice((0, 1, len(text) + 8, 2**31, 2**63, 2**64 - 1)) if kind == 7 else len(text)
    whole = struct.pack("<Q", length) + text + data
    return broken_bytes(random, whole) if kind in (8, 9) else whole


def make_checkpoint(random: Random, folder: Path) -> None:
    folder.joinpath("model.safetensors").write_bytes(safetensors_bytes(random, SHAPES))
    _config(random, folder)


def _config(random: Random, folder: Path) -> None:
    config = {"tie_word_embeddings": True, "model_type": "llama"}
    if random.random() < 0.3:
        folder.joinpath("config.json").write_bytes(json_text(random, broken_json(random, config)))


def read_checkpoint(folder: Path) -> str:
    from safespan.checkpoints import Checkpoint

    return _every_tensor(Checkpoint(folder))


def _every_tensor(checkpoint: Any) -> str:
    for name in checkpoint.names:
        checkpoint.load(name)
    checkpoint.sha256()
    return str(checkpoint.config)


def make_sharded(random: Random, folder: Path) -> None:
    names = sorted(SHAPES)
    weight_map: Any = {}
    for number, name in enumerate(names):
        header, data = safetensors_header({name: SHAPES[name]})
        text = json.dumps(header).encode()
        shard = f"model-{number}.safetensors"
        folder.joinpath(shard).write_bytes(struct.pack("<Q", len(text)) + text + data)
        weight_map[name] = shard
    shard = folder / "model-1.safetensors"
    kind = random.randrange(10)
    if kind == 0:
        shard.unlink()
    elif kind == 1:  # a link out of the folder, to itself, to a device, to a pipe
        shard.unlink()
        shard.symlink_to(random.choice(("../secret.jsonl", shard.name, "/dev/zero", "/dev/null", "..", "nowhere")))
    elif kind == 2:
        shard.unlink()
        os.mkfifo(shard)
    elif kind == 3:
        weight_map[random.choice(names)] = random.choice(
            (*TEXTS[:10], "../secret.jsonl", ".", "..", "sub/x", [], {}, 1)
        )
    elif kind == 4:
        weight_map["more"] = "model-0.safetensors"
    elif kind == 5:
        shard.write_bytes(safetensors_bytes(random, {names[1]: SHAPES[names[1]]}))
    elif kind == 6:
        shard.write_bytes(folder.joinpath("model-0.safetensors").read_bytes())
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    text = json_text(random, broken_json(random, index) if kind >= 7 else index)
    folder.joinpath("model.safetensors.index.json").write_bytes(text)
    _config(random, folder)


_ADAPTER = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": False, "bias": "none", "fan_in_fan_out": False,
    "alpha_pattern": {"q_proj": 8}, "rank_pattern": {}, "init_lora_weights": True, "target_modules": ["q_proj"],
}  # fmt: skip
_LORA = {
    "base_model.model.model.layers.0.q_proj.lora_A.weight": [2, 6],
    "base_model.model.model.layers.0.q_proj.lora_B.weight": [4, 2],
}


def make_adapter(random: Random, folder: Path) -> None:
    kind = random.randrange(6)
    settings: Any = dict(_ADAPTER)
    if kind == 0:
        evil = ("(a+)+$", "(.*)*x", "(", "[", "(?P<a>", "x" * 9000, "(?:.|..)+$", ".*.*.*.*.*.*.*.*.*.*.*=")
        settings["alpha_pattern"] = {random.choice(evil): 1.0}
    elif kind <= 3:
        settings = broken_json(random, settings)
    folder.joinpath("adapter_config.json").write_bytes(json_text(random, settings))
    shapes = dict(_LORA)
    if kind == 4:
        shapes = random.choice(
            (
                {name: [0, 6] if "A" in name.split("lora_")[1] else [4, 0] for name in _LORA},
                {name: [2, 2] for name in _LORA},
                dict(list(_LORA.items())[:1]),
                {**_LORA, "base_model.model.lm_head.weight": [4]},
                {"x": [1]},
            )
        )
    folder.joinpath("adapter_model.safetensors").write_bytes(safetensors_bytes(random, shapes))


@cache
def _seeds() -> Path:
    """A folder of valid things that inputs are made from; made once a process."""
    from tiny_gguf import write_gguf
    from tiny_model import save_tiny_model

    place = Path(mkdtemp(prefix="safespan-fuzz-seeds."))
    save_tiny_model(place / "model")
    write_gguf(place / "tiny.gguf")
    base = place / "base"
    base.mkdir()
    header, data = safetensors_header(SHAPES)
    text = json.dumps(header).encode()
    (base / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return place


def remove_seeds() -> None:
    """Remove what the inputs were made from."""
    shutil.rmtree(_seeds())
    _seeds.cache_clear()


def read_adapter(folder: Path) -> str:
    from safespan.checkpoints import AdaptedCheckpoint, Checkpoint
    from safespan.checkpoints.updates import update

    base = _seeds() / "base"
    adapted = AdaptedCheckpoint(base, folder)
    for name in adapted.names:
        assert update(name, Checkpoint(base), adapted).isfinite().all()
    return _every_tensor(adapted)


def make_model_folder(random: Random, folder: Path) -> None:
    for path in (_seeds() / "model").iterdir():
        shutil.copyfile(path, folder / path.name)
    name = random.choice(("config.json", "config.json", "tokenizer.json", "tokenizer_config.json"))
    value = json.loads(folder.joinpath(name).read_text())
    if name == "config.json" and random.random() < 0.4:
        sizes = ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size", "num_attention_heads",
                 "max_position_embeddings", "head_dim", "num_key_value_heads")  # fmt: skip
        value[random.choice(sizes)] = random.choice((0, -1, 3, 10**5, 10**9, 2**31, 2**63, "2", None, 1.5))
        folder.joinpath(name).write_text(json.dumps(value))
        return
    if name == "config.json" and random.random() < 0.3:
        value |= {"auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}}
        value["model_type"] = random.choice(("llama", "evil", ""))
        folder.joinpath("evil.py").write_text("open('escaped', 'w')")
    folder.joinpath(name).write_bytes(json_text(random, broken_json(random, value)))


def read_model_folder(folder: Path) -> str:
    from safespan.models.loading import load_causal_lm

    _, tokenizer = load_causal_lm(folder)
    return str(tokenizer("a b c")["input_ids"])


def _gguf_bytes(random: Random) -> bytes:
    """A GGUF file written by hand, so that every count and length can lie."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", random.choice((len(value.encode()),) * 600 + (2**63, 2**32, 0))) + value.encode()

    def entry(name: str, kind: int, value: bytes) -> bytes:
        return text(name) + struct.pack("<I", kind) + value

    arch = random.choice(("llama", "llama", "llama", "qwen2", "nosuch"))
    sizes = {"context_length": 64, "embedding_length": 8, "block_count": 1, "feed_forward_length": 8,
             "attention.head_count": 2, "attention.head_count_kv": 2}  # fmt: skip
    if random.random() < 0.4:
        sizes[random.choice(sorted(sizes))] = random.choice((0, 3, 10**6, 2**31 - 1, 2**32 - 1))
    tokens = ["<unk>", "<s>", "</s>", "a", "b", "c"]
    rows = [
        entry("general.architecture", 8, text(arch)),
        *(entry(f"{arch}.{name}", 4, struct.pack("<I", size)) for name, size in sizes.items()),
        entry(f"{arch}.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
        entry("tokenizer.ggml.model", 8, text("gpt2")),
        entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, len(tokens)) + b"".join(map(text, tokens))),
        entry("tokenizer.ggml.merges", 9, struct.pack("<IQ", 8, 1) + text("a b")),
    ]
    if random.random() < 0.3:
        bad = (struct.pack("<IQ", 4, 2**40), struct.pack("<IQ", 9, 2**62) * 50, struct.pack("<IQ", 77, 1))
        rows.append(entry("x", random.choice((9, 9, 99)), random.choice(bad)))
    if random.random() < 0.2:
        rows.append(entry("general.alignment", 4, struct.pack("<I", random.choice((0, 3, 2**31)))))
    tensor = text("token_embd.weight") + struct.pack(
        "<IQQIQ",
        2,
        random.choice((8, 8, 0, 2**40)),
        random.choice((6, 6, 2**62)),
        random.choice((0, 0, 8, 99)),
        random.choice((0, 0, 2**50)),
    )
    counts = random.choice(((1, len(rows)),) * 6 + ((2**60, len(rows)), (1, 2**60), (0, 0)))
    version = random.choice((3,) * 8 + (0, 2**24))
    whole = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(rows) + tensor
    whole += b"\0" * (-len(whole) % 32) + b"\0" * 192
    return broken_bytes(random, whole) if random.random() < 0.4 else whole


def make_gguf(random: Random, folder: Path) -> None:
    """One written by hand, or a whole model with accidents in its header or anywhere."""
    data = _gguf_bytes(random)
    if random.random() < 0.5:
        whole = (_seeds() / "tiny.gguf").read_bytes()
        head = random.choice((2000, len(whole)))
        data = broken_bytes(random, whole[:head]) + whole[head:]
    folder.joinpath("model.gguf").write_bytes(data)


def read_gguf(folder: Path) -> str:
    from safespan.models.gguf import convert_gguf

    return convert_gguf(folder / "model.gguf", folder / "cache").name
