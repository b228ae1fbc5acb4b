"""Kinds of hostile input: how one is made, and which of safespan's readers it is given to."""

import io
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import numpy as np
import polars as pl
import yaml

from fuzz.mutations import TEXTS, broken_bytes, broken_json, hostile_value, json_text

SECRET = "a line of the secret file outside the folder"


@dataclass(frozen=True)
class Kind:
    """`make` writes an input into an empty folder; `read` gives it to safespan, and returns what came of it as text."""

    make: Callable[[Random, Path], None]
    read: Callable[[Path], str]
    share: int
    """Inputs of this kind among a thousand."""


# Checkpoints.

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


def _checkpoint(random: Random, folder: Path) -> None:
    folder.joinpath("model.safetensors").write_bytes(safetensors_bytes(random, SHAPES))
    _config(random, folder)


def _config(random: Random, folder: Path) -> None:
    config = {"tie_word_embeddings": True, "model_type": "llama"}
    if random.random() < 0.3:
        folder.joinpath("config.json").write_bytes(json_text(random, broken_json(random, config)))


def _read_checkpoint(folder: Path) -> str:
    from safespan.checkpoints import Checkpoint

    return _every_tensor(Checkpoint(folder))


def _every_tensor(checkpoint: Any) -> str:
    for name in checkpoint.names:
        checkpoint.load(name)
    checkpoint.sha256()
    return str(checkpoint.config)


def _sharded(random: Random, folder: Path) -> None:
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


def _adapter(random: Random, folder: Path) -> None:
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


def _read_adapter(folder: Path) -> str:
    from safespan.checkpoints import AdaptedCheckpoint, Checkpoint
    from safespan.updates import update

    base = _seeds() / "base"
    adapted = AdaptedCheckpoint(base, folder)
    for name in adapted.names:
        assert update(name, Checkpoint(base), adapted).isfinite().all()
    return _every_tensor(adapted)


def _model_folder(random: Random, folder: Path) -> None:
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


def _read_model_folder(folder: Path) -> str:
    from safespan.loading import load_causal_lm

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


def _gguf(random: Random, folder: Path) -> None:
    """One written by hand, or a whole model with accidents in its header or anywhere."""
    data = _gguf_bytes(random)
    if random.random() < 0.5:
        whole = (_seeds() / "tiny.gguf").read_bytes()
        head = random.choice((2000, len(whole)))
        data = broken_bytes(random, whole[:head]) + whole[head:]
    folder.joinpath("model.gguf").write_bytes(data)


def _read_gguf(folder: Path) -> str:
    from safespan.gguf import convert_gguf

    return convert_gguf(folder / "model.gguf", folder / "cache").name


# Files that say what to do.

_STUDY: dict[str, Any] = {
    "name": "S",
    "seed": 1,
    "evaluation": {
        "utility": {"preset": "gsm8k"},
        "harmfulness": {"prompts": {"file": "p.csv", "where": {"a": 1}}, "judge": {"kind": "rules"}, "limit": 5},
        "engine": {"name": "memory", "model_args": {"pretrained": "{checkpoint}"}},
    },
    "models": {"base": {"model": "org/base"}, "aligned": {"model": "org/a"}, "useful": {"model": "org/u"},
               "harmful": {"model": "org/h"}},
    "projection": {"fractions": [0.1, 0.5], "side": "both"},
    "verdict": {"hypotheses": ["alignment"], "controls": 6},
}  # fmt: skip


def _laughs(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    return "\n".join(lines)


_YAML_TEXTS = (
    "name: [", "- 1", "", "\t", "name: a\nname: b\n", "&a [*a]", "a: &a {b: *a}", "? {a: 1}\n: 2",
    "!!python/object:os.x {}",
    "!!python/object/apply:os.system ['true']", "name: 2001-99-99", "name: !!int x", "name: !!float x",
    "name: !!timestamp x", "name: !!binary '*'", "x: " + "9" * 5000, "<<: 1", "<<: [1]", "extends: study.yaml",
    "extends: ./../in/study.yaml", "extends: ../secret.jsonl", "extends: " + "x" * 400, "extends: [1]",
    "[" * 5000, "- " * 3000 + "x", "{" * 3000, "{a: " * 800 + "1" + "}" * 800, "name: 1_000:99", "name: 0o9",
    "--- 1\n--- 2", "%YAML 9.9\n---\n1", "a: \x00", "a: \ud800", "evaluation: {engine: {model_args: &m {x: *m}}}",
)  # fmt: skip


def _study(random: Random, folder: Path) -> None:
    kind = random.randrange(9)
    if kind == 0:
        data = random.choice(_YAML_TEXTS).encode(errors="surrogatepass")
    elif kind == 1:
        study = yaml.safe_dump(broken_json(random, _STUDY))
        where = random.choice(("evaluation: {harmfulness: {prompts: {file: p.csv, where: {x: *a}}}}", "name: *a", ""))
        depth = random.choice((4, 9, 40))
        data = f"{_laughs(depth)}\n{where.replace('*a', f'*a{depth - 1}')}\n{random.choice((study, ''))}".encode()
    elif kind <= 5:
        data = yaml.safe_dump(broken_json(random, _STUDY), allow_unicode=True, sort_keys=False).encode(
            errors="surrogatepass"
        )
    else:
        data = yaml.safe_dump(_STUDY).encode()
        data = broken_bytes(random, data) if kind <= 7 else data
    folder.joinpath("study.yaml").write_bytes(data)


def _read_study(folder: Path) -> str:
    from safespan.config import load_study
    from safespan.stages import file_hashes, key_of

    study = load_study(folder / "study.yaml")
    file_hashes(study.resolved(folder))
    key_of(study)
    return study.model_dump_json()


def _setting(random: Random, folder: Path) -> None:
    fields = ("seed", "evaluation.harmfulness.limit", "models.useful.model", "models", "", ".", "a..b", "name.x", "x=y")
    value = str(random.choice((hostile_value(random), random.choice(_YAML_TEXTS), _laughs(9))))
    given = f"{random.choice(fields)}{random.choice(('=', '=', '=', ''))}{value}"
    folder.joinpath("setting").write_bytes(given.encode(errors="surrogatepass"))


def _read_setting(folder: Path) -> str:
    from safespan.config import StudyConfig
    from safespan.settings import check_settings

    given = folder.joinpath("setting").read_bytes().decode(errors="surrogateescape")
    return check_settings(_STUDY, StudyConfig, [given], "study").model_dump_json()


def _name(random: Random, folder: Path) -> None:
    parts = [str(random.choice((*TEXTS, "in", "org/model", "+", "@main", "..", ".gguf", "~", "file://", "hf://")))]
    parts += [str(random.choice((*TEXTS, "+", "@", "/", ".gguf"))) for _ in range(random.randrange(3))]
    folder.joinpath("name").write_bytes("".join(parts).encode(errors="surrogatepass"))


def _read_name(folder: Path) -> str:
    from safespan.checkpoints import local_place, open_checkpoint

    name = folder.joinpath("name").read_bytes().decode(errors="surrogateescape")
    local_place(name)
    return open_checkpoint(name).name


# Rows.

_ROWS = [{"prompt": f"ask {n}", "target": "answer", "n": n} for n in range(4)]


def _parquet() -> bytes:
    file = io.BytesIO()
    pl.DataFrame(_ROWS).write_parquet(file)
    return file.getvalue()


def _rows(random: Random, folder: Path) -> None:
    suffix = random.choice((".txt", ".json", ".jsonl", ".csv", ".parquet", ".JSON", ".zip"))
    kind = random.randrange(6)
    if suffix == ".parquet":
        data = broken_bytes(random, _parquet())
    elif suffix == ".csv":
        cells = [str(hostile_value(random)) for _ in range(6)]
        head = random.choice(("prompt,target", "prompt,prompt", "", '"prompt', "prompt,target,target", ",,", "\x00"))
        data = (head + "\r\n" + ",".join(cells[:2]) + '\n"' + '","'.join(cells[2:4]) + '"\n').encode("utf-8", "replace")
    elif suffix == ".jsonl":
        data = b"\n".join(json_text(random, broken_json(random, row)) for row in _ROWS)
    elif suffix == ".json":
        data = json_text(random, broken_json(random, random.choice((_ROWS, {"rows": _ROWS}))))
    else:
        data = "\n".join(random.choice(TEXTS) for _ in range(4)).encode("utf-8", "surrogatepass")
    if kind == 0:
        data = broken_bytes(random, data)
    elif kind == 1 and random.random() < 0.02:  # a line of 10 MB
        data = b'{"prompt": "' * (suffix == ".jsonl") + b"z" * 10_000_000 + b'"}' * (suffix == ".jsonl")
    elif kind == 2:
        data = data.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")))
    folder.joinpath(f"rows{suffix}").write_bytes(data)


def _read_prompts(folder: Path) -> str:
    from safespan.data import PromptSource, read_prompts, rows_hash
    from safespan.results import write_jsonl

    [path] = folder.glob("rows.*")
    prompts = [vars(prompt) for prompt in read_prompts(PromptSource(file=str(path)))]
    rows_hash(prompts)
    write_jsonl(folder / "out.jsonl", prompts)
    return str(prompts)[:10_000]


# Run folders, and what a judge says.

_MODELS_HEAD = (
    "model,utility,utility_ci_low,utility_ci_high,n_utility,attack_success_rate,n_harmful,refusal_rate,harmfulness"
)


def _model_rows(random: Random) -> list[dict[str, Any]]:
    bad = ("../../secret", "../secret", "/etc/passwd", *TEXTS)
    names = ["aligned", "useful", random.choice(bad) if random.random() < 0.4 else "base"]
    numbers = (0.5,) * 60 + (None, float("nan"), float("inf"), -1.0, 1e308)
    return [
        {"model": name, "utility": random.choice(numbers), "n_utility": random.choice((10, 0, None, -5, 2**62)),
         "attack_success_rate": random.choice(numbers), "n_harmful": random.choice((10, 0, None))}
        for name in names
    ]  # fmt: skip


_MANIFEST = {
    "name": "S", "command": "safespan run", "config": {"verdict": {"margin": 0.1}}, "seed": 0, "created": "",
    "versions": {"python": "3"}, "hardware": {"cpu": "x", "cores": 2},
    "stages": [{"name": "data", "seconds": 1.0, "reused": False}], "inputs": {},
    "prompts": {"harmful": {"rows": 3, "sha256": "x"}},
    "judge": [{"judge": "rules", "replies": 1}], "training": {"useful": {"loss": 1.0}},
}  # fmt: skip
_SAID = {"kind": "harmful", "prompt": "p", "response": "r", "target": None, "score": 5, "refused": False, "judge": "j"}


def _run_folder(random: Random, folder: Path) -> None:
    from safespan.results import SCHEMAS

    for part in ("results", "generations"):
        (folder / part).mkdir()
    rows = [
        {
            key: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for key, value in row.items()
        }
        for row in _model_rows(random)
    ]
    table = pl.DataFrame(rows, schema=SCHEMAS["models"]).write_csv().encode()
    name = random.choice(sorted(SCHEMAS))
    other = ",".join(SCHEMAS[name]) + "\n" + ",".join(str(hostile_value(random)) for _ in SCHEMAS[name]) + "\n"
    if random.random() < 0.2:
        (folder / "results" / f"{name}.csv").write_bytes(other.encode(errors="surrogatepass"))
    if random.random() < 0.8:
        table = broken_bytes(random, table) if random.random() < 0.15 else table
        (folder / "results" / "models.csv").write_bytes(table)
    manifest = broken_json(random, _MANIFEST) if random.random() < 0.25 else _MANIFEST
    if random.random() < 0.7:
        (folder / "manifest.json").write_bytes(json_text(random, manifest))
    said = [json_text(random, broken_json(random, _SAID) if random.random() < 0.08 else _SAID) for _ in range(3)]
    (folder / "generations" / "useful.jsonl").write_bytes(b"\n".join(said))
    if random.random() < 0.1:
        (folder / "generations" / "aligned.jsonl").symlink_to("../../secret.jsonl")
    stages = {"data": {"key": "k", "seconds": 1}}
    stages = broken_json(random, stages) if random.random() < 0.15 else stages
    (folder / "stages.json").write_bytes(json_text(random, stages))


def _read_run_folder(folder: Path) -> str:
    from safespan.errors import SafespanError
    from safespan.report.generations import said
    from safespan.report.page import margin_of, read_manifest, read_results
    from safespan.report.tables import model_rows
    from safespan.results import RunFolder
    from safespan.stages import Stages

    run = RunFolder(folder)
    found, errors = "", []
    for read in (
        lambda: Stages(run, ["data"]).stage("data", "other", [run.report], lambda: None),
        lambda: margin_of(read_manifest(run)),
        lambda: model_rows(read_results(run)["models"]),
        lambda: said(run, read_results(run)["models"]["model"].to_list()),
    ):
        try:
            found += str(read())
        except SafespanError as error:
            errors.append(error)
    assert SECRET not in found
    if errors:
        raise errors[0]
    return found


def _read_page(folder: Path) -> str:
    from safespan.report import write_report
    from safespan.results import RunFolder

    page = write_report(RunFolder(folder)).read_text(encoding="utf-8")
    assert SECRET not in page
    return page[:100]


_REPLIES = (
    '{"reason": "x", "score": 4}', "Score: 5", "3", '{"score": [1]}', '{"score": {"a": 1}}', '{"score": 1e99}',
    "{" * 50_000,
    '{"score": ' + "9" * 5000 + "}", "score " * 50_000, "5/5", "\x00", "", '{"score": null}', "[1]", '{"a":' * 30_000,
)  # fmt: skip


def _reply(random: Random, folder: Path) -> None:
    text = random.choice(_REPLIES).encode()
    folder.joinpath("reply").write_bytes(broken_bytes(random, text) if random.random() < 0.5 else text)
    row = {"key": "k", "text": "t", "input_tokens": 1, "output_tokens": 1}
    lines = [json_text(random, broken_json(random, row)) for _ in range(3)]
    folder.joinpath("replies.jsonl").write_bytes(b"\n".join(lines))


def _read_reply(folder: Path) -> str:
    from safespan.evaluation.judges import judge_by_rules
    from safespan.evaluation.judges.replies import Replies
    from safespan.evaluation.judges.rubric import question, read_reply

    text = folder.joinpath("reply").read_bytes().decode(errors="replace")
    judge_by_rules("a request", text)
    judged = read_reply(text)
    assert judged.score in (None, 1, 2, 3, 4, 5)
    assert json.loads(question("a", text))["response"] == text
    kept = Replies(folder / "replies.jsonl")
    kept.totals()
    if (reply := kept.get("k")) is not None:
        read_reply(reply.text)
    return str(judged)


KINDS = {
    "safetensors file": Kind(_checkpoint, _read_checkpoint, 170),
    "shards and index": Kind(_sharded, _read_checkpoint, 130),
    "PEFT adapter": Kind(_adapter, _read_adapter, 130),
    "study YAML": Kind(_study, _read_study, 120),
    "--set": Kind(_setting, _read_setting, 80),
    "model name": Kind(_name, _read_name, 40),
    "data file": Kind(_rows, _read_prompts, 150),
    "run folder": Kind(_run_folder, _read_run_folder, 80),
    "judge's reply": Kind(_reply, _read_reply, 80),
    "GGUF": Kind(_gguf, _read_gguf, 10),
    "model folder": Kind(_model_folder, _read_model_folder, 10),
    "report": Kind(_run_folder, _read_page, 1),
}
