"""Checkpoints to measure with: Llama shapes, random weights, a family of base, aligned and fine-tunes.

Everything is drawn tensor by tensor from seeds of its own; every update is of low rank with noise, and large enough to
survive bf16. A family is complete for a merging tool (config.json, names, a tied embedding), but it says nothing.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

RANK, STEP = 8, 1e-3
FLOAT32 = 4


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama with a tied embedding."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    layers: int
    vocabulary: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight."""
        h, i, kv = self.hidden, self.inner, self.hidden // self.heads * self.kv_heads
        block: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (h, h),
            "self_attn.k_proj": (kv, h),
            "self_attn.v_proj": (kv, h),
            "self_attn.o_proj": (h, h),
            "mlp.gate_proj": (i, h),
            "mlp.up_proj": (i, h),
            "mlp.down_proj": (h, i),
            "input_layernorm": (h,),
            "post_attention_layernorm": (h,),
        }
        blocks = {f"model.layers.{n}.{name}.weight": size for n in range(self.layers) for name, size in block.items()}
        return {"model.embed_tokens.weight": (self.vocabulary, h), "model.norm.weight": (h,), **blocks}

    def largest(self) -> int:
        """Bytes of the largest tensor in float32."""
        return FLOAT32 * max(torch.Size(size).numel() for size in self.tensors().values())

    def parameters(self) -> int:
        return sum(torch.Size(size).numel() for size in self.tensors().values())

    def config(self) -> dict[str, object]:
        """What config.json says, in the fields of transformers' LlamaConfig."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": "bfloat16",
        }


SMOLLM2_135M = Shape(hidden=576, inner=1536, heads=9, kv_heads=3, layers=30, vocabulary=49152)
LLAMA_1B = Shape(hidden=2048, inner=8192, heads=32, kv_heads=8, layers=16, vocabulary=128256)


def family(folder: str, shape: dict[str, int], finetunes: Sequence[str], shard: int = 600_000_000) -> Callable[[], int]:
    """A side: make the family in bf16, as many bytes of each member in memory at a time as go into a shard."""
    return partial(_make, Path(folder), Shape(**shape), ("base", "aligned", *finetunes), shard)


def _make(folder: Path, shape: Shape, roles: Sequence[str], limit: int) -> int:
    sizes = shape.tensors()
    shards = list(_shards(sizes, limit))
    files = [f"model-{n + 1:05d}.safetensors" for n in range(len(shards))] if shards[1:] else ["model.safetensors"]
    for role in roles:
        (folder / role).mkdir(parents=True)
        (folder / role / "config.json").write_text(json.dumps(shape.config(), indent=2))
        if shards[1:]:
            index = {name: file for file, names in zip(files, shards, strict=True) for name in names}
            text = json.dumps({"metadata": {"total_size": 2 * shape.parameters()}, "weight_map": index})
            (folder / role / "model.safetensors.index.json").write_text(text)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a generator draws on one core
        for file, names in zip(files, shards, strict=True):
            drawn = list(pool.map(lambda name: _versions(name, sizes[name], roles), names))
            for number, role in enumerate(roles):
                weights = {name: each[number] for name, each in zip(names, drawn, strict=True)}
                save_file(weights, folder / role / file, metadata={"format": "pt"})
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def _shards(sizes: dict[str, tuple[int, ...]], limit: int) -> Iterator[list[str]]:
    held, names = 0, []
    for name, size in sizes.items():
        count = 2 * torch.Size(size).numel()
        if names and held + count > limit:
            yield names
            held, names = 0, []
        held, names = held + count, [*names, name]
    yield names


def _versions(name: str, size: tuple[int, ...], roles: Sequence[str]) -> list[torch.Tensor]:
    """One tensor of base, aligned and each fine-tune of aligned."""
    base = 0.02 * torch.randn(size, generator=_seeded(name, "base"))
    versions = [(base if len(size) > 1 else 1 + base).bfloat16()]
    for role in roles[1:]:
        start = versions[min(len(versions), 2) - 1].float()
        versions.append(start.add_(_step(size, _seeded(name, role))).bfloat16())
    return versions


def _step(size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(size) == 1:
        return 0.02 * torch.randn(size, generator=generator)
    noise = STEP * torch.randn(size, generator=generator)
    left, right = (torch.randn(*pair, generator=generator) for pair in ((size[0], RANK), (RANK, size[1])))
    return noise.addmm_(left, right, alpha=STEP)


def _seeded(*words: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32("/".join(words).encode()))


def options(shape: Shape) -> dict[str, int]:
    """The shape as plain data, for a process of its own."""
    return asdict(shape)
