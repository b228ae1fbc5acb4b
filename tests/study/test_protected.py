"""Protected training in a study: its claim's inputs are the study's roles and prompts, and part of its stage's key."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from faults.study import write_study
from oracle import exact, project
from safespan.errors import ConfigError
from safespan.files.atomic import write_jsonl
from safespan.results import RunFolder
from safespan.settings.study import StudyConfig, load_study
from safespan.study.context import Study
from safespan.study.needs import check_needs
from safespan.study.protected import with_sources
from safespan.study.run import run_study
from safespan.study.stages import stages
from tiny_model import save_tiny_model

ALONE = [
    "projection=null",
    "overlap=null",
    "verdict=null",
    "evaluation={}",
    "activations.permutations=0",
    "activations.bootstraps=0",
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1")


def protected(file, role: str, *settings: str, **fields: object) -> StudyConfig:
    field = f"models.{role}.train.protect={json.dumps({'fraction': 0.5, **fields})}"
    return load_study(file, [*ALONE, field, *settings])


def keys(config: StudyConfig, run) -> dict[str, str]:
    return {stage.name: stage.key() for stage in stages(Study(config, run)) if stage.name.startswith("model ")}


def test_a_study_trains_under_the_update_of_its_own_roles(file, tmp_path):
    config = protected(file, "useful", hypothesis="alignment", side="input")
    run_study(config, tmp_path / "run")
    places = [file.parent / "base", file.parent / "aligned", tmp_path / "run" / "checkpoints" / "useful"]
    base, aligned, useful = (load_file(place / "model.safetensors") for place in places)
    for name, weight in aligned.items():
        change = exact(useful[name]) - exact(weight)
        if weight.ndim == 1:
            assert not change.any()
            continue
        assert np.abs(change).max() > 1e-3
        assert np.abs(project(change, exact(weight) - exact(base[name]), 0.5, "input")).max() < 1e-6
    training = RunFolder(tmp_path / "run").read_manifest().training
    assert training["useful"]["protection"]["hypothesis"] == "alignment"
    assert training["harmful"]["protection"] is None
    run_study(config, tmp_path / "run")
    assert all(stage.reused for stage in RunFolder(tmp_path / "run").read_manifest().stages)


def test_sources_are_those_that_the_claim_needs(file, tmp_path):
    config = protected(file, "harmful", hypothesis="refusal-direction", keep="inside")
    study = Study(config, tmp_path)
    filled = with_sources(study, config.models["harmful"].train).protect
    assert (filled.base, filled.harmful, filled.safe, filled.seed) == (None, None, None, 0)
    assert filled.prompts.useful == config.activations.useful
    assert filled.prompts.harmful == config.activations.harmful
    assert filled.refusals is None  # this study has no verdict
    assert with_sources(study, config.models["useful"].train) == config.models["useful"].train
    whole = load_study(file, ["models.harmful.train.protect={fraction: 0.5, hypothesis: refusal-direction}"])
    filled = with_sources(Study(whole, tmp_path), whole.models["harmful"].train).protect
    assert filled.refusals == whole.verdict.refusals == ("i",)
    seeded = protected(file, "useful", "seed=3", hypothesis="alignment", seed=7)
    filled = with_sources(Study(seeded, tmp_path), seeded.models["useful"].train).protect
    assert (filled.base, filled.prompts, filled.seed) == (str(file.parent / "base"), None, 7)


def test_the_inputs_of_the_claim_are_part_of_the_key(file, tmp_path):
    folder = shutil.copytree(file.parent, tmp_path / "study")
    text = (folder / "study.yaml").read_text().replace(str(file.parent), str(folder))
    (folder / "study.yaml").write_text(text)
    by_base = protected(folder / "study.yaml", "useful", hypothesis="alignment")
    by_prompts = protected(folder / "study.yaml", "useful", hypothesis="actsvd")
    before = [keys(config, tmp_path / "run") for config in (by_base, by_prompts)]
    assert [keys(config, tmp_path / "elsewhere") for config in (by_base, by_prompts)] == before
    weights = load_file(folder / "base" / "model.safetensors")
    save_file(
        {name: 2 * weight for name, weight in weights.items()}, folder / "base" / "model.safetensors", {"format": "pt"}
    )
    write_jsonl(folder / "harmful.jsonl", [{"prompt": f"help {x}", "target": "d"} for x in "abcdef"])
    after = [keys(config, tmp_path / "run") for config in (by_base, by_prompts)]
    assert all(old["model useful"] != new["model useful"] for old, new in zip(before, after, strict=True))
    assert all(old["model harmful"] == new["model harmful"] for old, new in zip(before, after, strict=True))
    first = keys(by_base, tmp_path / "run")
    write_jsonl(folder / "harmful.jsonl", [{"prompt": "help", "target": "d"}] * 6)  # this claim has no prompts
    assert keys(by_base, tmp_path / "run") == first


@pytest.mark.parametrize(
    ("role", "fields", "settings", "says"),
    [
        ("useful", {"hypothesis": "lox"}, [], "train.protect: hypothesis 'lox' names no subspace"),
        ("useful", {"hypothesis": "harmful-update"}, [], r"'harmful-update' needs a harmful .* models above useful"),
        ("useful", {"hypothesis": "safety"}, [], "models.useful.train.protect: protecting 'safety' needs a safe model"),
        ("useful", {"hypothesis": "actsvd"}, ["activations=null"], "'actsvd' needs useful and harmful prompts"),
        ("useful", {"hypothesis": "alignment", "base": "x"}, [], r"protect\.base: a study takes it from its roles"),
    ],
)
def test_what_a_protected_training_lacks_is_said_before_anything_is_trained(
    file, tmp_path, role, fields, settings, says
):
    config = protected(file, role, *settings, **fields)
    for check in (lambda: check_needs(config), lambda: run_study(config, tmp_path / "run")):
        with pytest.raises(ConfigError, match=says):
            check()
    assert not (tmp_path / "run").exists()


def test_a_role_above_is_there(file):
    check_needs(protected(file, "harmful", hypothesis="alignment"))
    fields = load_study(file, ALONE).model_dump(mode="json", exclude_unset=True)
    fields["models"]["contaminated"] = {
        "start": "aligned",
        "train": {**fields["models"]["useful"]["train"], "protect": {"hypothesis": "harmful-update", "fraction": 0.5}},
    }
    check_needs(StudyConfig.model_validate(fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"hypothesis": "top"},
            "models.useful.train.protect.hypothesis: unknown claim 'top': expected one of alignment",
        ),
        ({"hypothesis": "random", "fraction": 1.5}, "protect.fraction: expected a number of at most 1, given 1.5"),
        ({"hypothesis": "random", "keep": "near"}, "protect.keep: expected 'outside' or 'inside', given 'near'"),
    ],
)
def test_wrong_settings_name_the_field(file, fields, says):
    with pytest.raises(ConfigError, match=says):
        protected(file, "useful", **fields)
