"""The JSON Schema of a study file."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from safespan.settings import load_study
from safespan.settings.base import Settings
from safespan.settings.schema import PRESETS_OF, study_schema
from safespan.settings.study import StudyConfig
from safespan.settings.training import TrainingConfig

STUDIES = Path(__file__).parents[2] / "studies"
FILES = sorted(STUDIES.glob("*.yaml"))
WHOLE = {
    "name": "mine",
    "models": {"base": {"model": "o/base"}, "aligned": {"model": "o/aligned"}, "useful": {"model": "o/useful"}},
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = study_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def plain(path: Path) -> object:
    """A file as an editor sees it: a date is text."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))


def changed(**fields: object) -> dict:
    return {**WHOLE, **fields}


def test_the_file_beside_the_studies_is_what_the_command_makes():
    """`safespan schema --out studies/study.schema.json` writes it anew."""
    assert json.loads((STUDIES / "study.schema.json").read_text()) == study_schema()


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_bundled_study_names_the_schema_and_is_accepted_as_written(path, validator):
    [name] = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text().splitlines()[0]).groups()
    assert (path.parent / name).resolve() == STUDIES / "study.schema.json"
    assert [error.message for error in validator.iter_errors(plain(path))] == []


GOOD = [
    changed(evaluation={"utility": "gsm8k", "harmfulness": {"prompts": "advbench", "judge": "rules"}}),
    changed(evaluation={"utility": {"preset": "gsm8k", "limit": 3}, "harmfulness": {"prompts": "rows.jsonl"}}),
    changed(evaluation={"harmfulness": {"prompts": {"preset": "advbench"}, "judge": {"kind": "llm", "model": "o/m"}}}),
    changed(projection=None, overlap=None),
    changed(evaluation={"template_date": "2025-02-03"}),
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_a_study_may_be_is_accepted(fields, validator, tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(fields))
    load_study(tmp_path / "study.yaml")
    assert [error.message for error in validator.iter_errors(fields)] == []


@pytest.mark.parametrize(
    "fields",
    [
        changed(evaluation={"harmfulness": {"judge": {"model": "o/m"}}}, extends="other.yaml"),
        {"extends": "other.yaml"},
        {"extends": "other.yaml", "models": {"useful": {"train": {"max_steps": 3}}}},
    ],
)
def test_a_file_that_extends_another_needs_not_be_whole(fields, validator):
    assert [error.message for error in validator.iter_errors(fields)] == []


BAD = [
    {"name": "no models"},
    changed(sed=1),
    changed(seed=-1),
    changed(data="organisms"),
    changed(models={**WHOLE["models"], "helpful": {"model": "o/other"}}),
    changed(models={"aligned": {"modle": "o/aligned"}}),
    changed(evaluation={"utility": {"preset": "gsm9k"}}),
    changed(evaluation={"harmfulness": {"prompts": "advbench", "judge": "ruler"}}),
    changed(evaluation={"harmfulness": {"prompts": "advbench", "judge": {"kind": "llm", "modle": "o/m"}}}),
    changed(verdict={"tests": ["updat"]}),
    changed(projection={"fractions": 0.5}),
]


@pytest.mark.parametrize("fields", BAD)
def test_what_a_study_may_not_be_is_refused_by_both(fields, validator, tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(Exception, match=r"study\.yaml"):
        load_study(tmp_path / "study.yaml")
    assert not validator.is_valid(fields)


def every_subclass(kind: type) -> list[type]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in every_subclass(child))]


def test_every_configuration_that_is_read_in_another_form_is_known():
    """A new one, with a validator that runs before its fields are read, has to be told to the schema too."""
    names = StudyConfig.model_json_schema()["$defs"]
    before = {
        kind
        for kind in every_subclass(Settings)
        if kind.__name__ in names
        for name, found in kind.__pydantic_decorators__.model_validators.items()
        if found.info.mode == "before" and name not in Settings.__pydantic_decorators__.model_validators
    }
    assert before == {*PRESETS_OF, TrainingConfig}  # whose recipe is a field
