from pathlib import Path

import pytest
import yaml

from safespan.errors import ConfigError
from safespan.settings.study import StudyConfig, bundled_study, load_study


def test_the_bundled_study_is_valid_and_knows_its_run_folder(tmp_path):
    study = load_study(bundled_study("organism"))
    assert study.finetunes == ["useful", "harmful", "contaminated"]
    assert study.data == "organism"
    assert study.models["useful"].train.data.file.startswith("{run}/")
    resolved = study.resolved(tmp_path)
    assert resolved.models["useful"].train.data.file == f"{tmp_path}/data/train/useful.jsonl"
    assert "{run}" not in resolved.model_dump_json()


def test_settings_change_fields():
    study = load_study(bundled_study("organism"), ["seed=7", "projection.fractions=[0.5]", "name=a b"])
    assert (study.seed, study.projection.fractions, study.name) == (7, (0.5,), "a b")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sede=1", r"^--set: unknown field 'sede': did you mean 'seed'\?$"),
        ("projection.fracton=[1]", r"^--set: projection: unknown field 'fracton': did you mean 'fractions'\?$"),
        (
            "models.useful.train.data.colour=red",
            "train.data: unknown field 'colour': expected one of file, .*, preset$",
        ),
        ("exten=other.yaml", r"unknown field 'exten': did you mean 'extends'\?$"),
        ("seed=-1", "seed: expected a number of at least 0, given -1"),
        ("projection.fractions=[0.5, 1.5]", r"projection.fractions 1.5 is outside \(0, 1\]"),
        ("projection.fractions=[0.5, 0.5]", "^--set: projection.fractions: 0.5 is given twice: leave one of them out$"),
        ("verdict.fractions=[1, 0.5, 1.0]", "verdict.fractions: 1.0 is given twice"),
        ("overlap.energies=[0.5, 0.5]", "overlap.energies: 0.5 is given twice"),
        ("verdict.hypotheses=[lox, lox]", "verdict.hypotheses: 'lox' is given twice"),
        ("verdict.tests=[update, update]", "verdict.tests: 'update' is given twice"),
        ("projection.subspaces=[top]", "projection.subspaces: unknown claim 'top': expected one of alignment"),
        ("projection.methods=[up]", "projection.methods: unknown method 'up'"),
        ("overlap.energies=[0]", r"overlap.energies 0.0 is outside \(0, 1\]"),
        ("models.aligned.model=here", "give either model, or start together with train"),
        ("models.aligned.start=useful", "'useful' is not a role defined above it"),
        ("models.pirate.model=x", "models: unknown role 'pirate': expected one of base"),
        ("models.harmfull.model=x", "models: unknown role 'harmfull': did you mean 'harmful'"),
        ("verdict.hypotheses=[alignmnt]", "verdict.hypotheses: unknown claim 'alignmnt': did you mean 'alignment'"),
        ("activations.models=[pirate]", "there is no model 'pirate': give models.pirate, or leave it out here"),
        (
            "evaluation.harmfulness.judge=oracle",
            "harmfulness.judge: expected one of 'rules', .*, given 'oracle'",
        ),
        ("overlap.ceiling=base", r"overlap.ceiling: 'base' is no update that this study trains \(aligned, useful"),
        ("overlap.ceiling=pirate", "overlap.ceiling: 'pirate' is no update"),
        ("activations.permutations=-1", "activations.permutations: expected a number of at least 0, given -1"),
        ("verdict.margin=nan", "^--set: verdict.margin: expected a finite number, given 'nan'$"),
        ("verdict.margin=.nan", "^--set: verdict.margin: expected a finite number, given nan$"),
        ("projection.fractions=[.nan]", "^--set: projection.fractions.0: expected a finite number, given nan$"),
        ("projection.fractions=0.5", "projection.fractions: expected a list, such as .a, b., given 0.5"),
        (
            "models.useful.train.protect={hypothesis: random, refusals: []}",
            "protect.refusals: expected a list of at least 1, given an empty list",
        ),
        ("models.aligned=here", "models.aligned: expected named fields, given 'here'"),
        ("seed=many", "seed: expected a whole number, given 'many'"),
        ("seed", "expected FIELD=VALUE"),
        ("seed.x=1", "seed has no fields of its own"),
        ("seed=[1", "is not a YAML value"),
    ],
)
def test_wrong_settings_name_the_field(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_study(bundled_study("organism"), [setting])


@pytest.mark.parametrize("text", ["- a list", "a: [1", ""])
def test_files_that_are_no_study(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml|should hold fields"):
        load_study(path)


def test_a_ceiling_needs_a_model_that_the_study_trains(tmp_path):
    raw = yaml.safe_load(bundled_study("organism").read_text())
    raw["models"]["harmful"] = {"model": "somewhere"}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ConfigError, match="overlap.ceiling: 'harmful' is no update that this study trains"):
        load_study(path)
    assert load_study(path, ["overlap.ceiling=null"]).overlap.ceiling is None


def test_missing_roles(tmp_path):
    raw = yaml.safe_load(bundled_study("organism").read_text())
    raw["models"] = {"base": {"model": "x"}, "aligned": {"model": "y"}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="at least one of useful, harmful, contaminated"):
        load_study(path, ["activations.models=[base]"])


def test_activations_are_taken_of_the_models_that_the_study_has():
    """Where it does not name them; those that it names must be there."""
    raw = yaml.safe_load(bundled_study("organism").read_text()) | {"projection": None, "overlap": None, "verdict": None}
    assert "models" not in raw["activations"]
    raw["models"] = {role: {"model": f"org/{role}"} for role in ("safe", "finetuned", "harmful", "aligned")}
    study = StudyConfig.model_validate(raw)
    assert study.activations.models == ("aligned", "harmful", "finetuned")
    assert study.resolved(Path("run")).activations.models == study.activations.models
    with pytest.raises(ValueError, match="activations.models: there is no model 'base'"):
        StudyConfig.model_validate(raw | {"activations": {**raw["activations"], "models": ["aligned", "base"]}})
