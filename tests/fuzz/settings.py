"""Studies, settings and names of models that are broken, or lie."""

from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzz.mutations import TEXTS, broken_bytes, broken_json, hostile_value

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


def make_study(random: Random, folder: Path) -> None:
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


def read_study(folder: Path) -> str:
    from safespan.settings.study import load_study
    from safespan.study.keys import input_hashes, key_of
    from safespan.study.needs import check_needs

    study = load_study(folder / "study.yaml")
    check_needs(study)
    for settings in (study.evaluation, study.activations, study.verdict):
        input_hashes(settings)
    key_of(study.resolved(folder))
    return study.model_dump_json()


def make_setting(random: Random, folder: Path) -> None:
    fields = ("seed", "evaluation.harmfulness.limit", "models.useful.model", "models", "", ".", "a..b", "name.x", "x=y")
    value = str(random.choice((hostile_value(random), random.choice(_YAML_TEXTS), _laughs(9))))
    given = f"{random.choice(fields)}{random.choice(('=', '=', '=', ''))}{value}"
    folder.joinpath("setting").write_bytes(given.encode(errors="surrogatepass"))


def read_setting(folder: Path) -> str:
    from safespan.settings.reading import check_settings
    from safespan.settings.study import StudyConfig

    given = folder.joinpath("setting").read_bytes().decode(errors="surrogateescape")
    return check_settings(_STUDY, StudyConfig, [given], "study").model_dump_json()


def make_name(random: Random, folder: Path) -> None:
    parts = [str(random.choice((*TEXTS, "in", "org/model", "+", "@main", "..", ".gguf", "~", "file://", "hf://")))]
    parts += [str(random.choice((*TEXTS, "+", "@", "/", ".gguf"))) for _ in range(random.randrange(3))]
    folder.joinpath("name").write_bytes("".join(parts).encode(errors="surrogatepass"))


def read_name(folder: Path) -> str:
    from safespan.checkpoints import local_place, open_checkpoint

    name = folder.joinpath("name").read_bytes().decode(errors="surrogateescape")
    local_place(name)
    return open_checkpoint(name).name
