"""The costs of a study on a GGUF file, which is not converted for them, are those on the folder that it becomes."""

from pathlib import Path

import pytest

import safespan.models.gguf
from safespan.files.atomic import write_jsonl
from safespan.models.gguf import convert_gguf
from safespan.settings.study import StudyConfig
from safespan.study.costs.estimate import estimate
from safespan.study.plan import plan
from tiny_gguf import write_gguf


def study_of(model: Path, place: Path) -> StudyConfig:
    """A study that trains two models from one that is given."""
    write_jsonl(place / "rows.jsonl", [{"prompt": "ab c", "response": "d", "target": "e"}] * 6)
    for kind, words in (("useful", ("a b", "b c")), ("harmful", ("c d", "d e"))):
        write_jsonl(place / f"{kind}.jsonl", [{"prompt": text} for text in words * 3])
    rows = str(place / "rows.jsonl")
    train = {"data": {"file": rows}, "max_steps": 3, "batch_size": 2, "accumulation_steps": 1}
    models = {"base": {"model": str(model)}} | {
        role: {"start": start, "train": train} for role, start in (("aligned", "base"), ("harmful", "aligned"))
    }
    fields = {"name": "s", "models": models, "evaluation": {"harmfulness": {"prompts": rows, "max_new_tokens": 4}}}
    prompts = {kind: str(place / f"{kind}.jsonl") for kind in ("useful", "harmful")}
    fields["activations"] = {**prompts, "models": ["base", "aligned"]}
    return StudyConfig.model_validate(fields)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def test_the_costs_are_those_of_the_converted_folder(written, tmp_path):
    whole = estimate(study_of(convert_gguf(written, tmp_path / "converted"), tmp_path), tmp_path / "run")
    costs = estimate(study_of(written, tmp_path), tmp_path / "run")
    assert costs.shape == whole.shape
    assert costs.shape is not None
    assert costs.shape.parameters == 22_688
    assert costs.record() == whole.record()
    assert costs.unknown == []


def test_a_plan_checks_the_tokenizer_and_converts_nothing(written, tmp_path, monkeypatch):
    monkeypatch.setattr(safespan.models.gguf, "read_whole", None)
    lines = plan(study_of(written, tmp_path), tmp_path / "run")
    size = f"{4 * 22_688 / 1e9:.1f} GB"
    assert f"model base: {written}, {size} when it is converted, in the cache" in lines
    assert "models whose tokenizer, chat template and room for the prompts could not be checked yet: none" in lines
    assert not (tmp_path / "cache").exists()
