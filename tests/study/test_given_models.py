"""The roles of models that a study is given are compared before anything is trained or asked, and recorded."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from safespan.errors import CheckpointError, ConfigError
from safespan.files.atomic import write_jsonl
from safespan.results import RunFolder
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.study.context import Study
from safespan.study.inputs import check_one_model
from safespan.study.needs import needed_updates
from safespan.study.plan import plan
from safespan.study.replicates import run_replicates
from safespan.study.run import run_study
from safespan.study.stages import stages
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model


@pytest.fixture
def family(tmp_path: Path) -> dict[str, str]:
    """Base, aligned, a fine-tune, and a training of another one."""
    folders = {role: save_tiny_model(tmp_path / role, seed) for seed, role in enumerate(("base", "aligned"))}
    folders["useful"] = save_tiny_model(tmp_path / "useful", 1)
    weights = load_file(folders["useful"] / "model.safetensors")
    changed = {name: 1.01 * weight for name, weight in weights.items()}
    save_file(changed, folders["useful"] / "model.safetensors", {"format": "pt"})
    return {role: str(folder) for role, folder in folders.items()}


def study_of(models: dict[str, str], trained: dict[str, object] | None = None, **fields: object) -> StudyConfig:
    """A study that asks the models nothing."""
    roles = {role: {"model": model} for role, model in models.items()} | (trained or {})
    settings = {"projection": {"subspaces": ["alignment"], "fractions": [0.5]}, "overlap": None, **fields}
    return StudyConfig.model_validate({"name": "roles", "models": roles, **settings})


def names_of(config: StudyConfig, out: Path) -> list[str]:
    return [stage.name for stage in stages(Study(config, out))]


def training(tmp_path: Path, start: str = "aligned") -> dict[str, object]:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a b", "response": "c"}] * 4)
    return {"start": start, "train": {"data": {"file": str(tmp_path / "rows.jsonl")}, "max_steps": 1}}


def test_which_roles_are_compared_and_when(family, tmp_path):
    useful = family.pop("useful")
    trained = {"contaminated": training(tmp_path)}
    config = study_of({**family, "useful": useful}, trained)
    assert names_of(config, tmp_path)[:3] == ["roles", "model contaminated", "outcomes"]
    assert names_of(study_of(family, trained), tmp_path)[:2] == ["roles", "model contaminated"]
    own = {"aligned": training(tmp_path, "base"), "harmful": training(tmp_path)}
    grown = StudyConfig.model_validate(study_of({"base": family["base"]}, own).model_dump(exclude_unset=True))
    assert "roles" not in names_of(grown, tmp_path)
    both = study_of({"base": family["base"]}, {"aligned": own["aligned"], "useful": {"model": useful}})
    assert names_of(both, tmp_path)[:3] == ["model aligned", "roles", "outcomes"]
    assert "roles" not in names_of(load_study(bundled_study("organism")), tmp_path)


def test_a_run_of_models_in_their_roles_has_no_notes(family, tmp_path):
    run_study(study_of(family), tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_manifest().notes == []


def test_swapped_models_and_the_tokenizer_of_an_adapter_are_noted_in_the_manifest(family, tmp_path, caplog):
    adapter = make_adapter(Path(family["aligned"]), tmp_path)
    (adapter / "chat_template.jinja").write_text("of the adapter")
    models = family | {
        "base": family["aligned"],
        "aligned": family["base"],
        "harmful": f"{family['aligned']}+{adapter}",
    }
    run = RunFolder(tmp_path / "run")
    run_study(study_of(models), run.root)
    useful, harmful, template, prompted = run.read_manifest().notes
    assert prompted.startswith(
        "harmful: its chat template is not that of the aligned model; the aligned model's is used"
    )
    assert useful.startswith(f"useful ({family['useful']}) is nearer to base than to aligned, ‖useful − base‖ = ")
    assert f"its adapter is put on {family['aligned']}, which is not aligned" in harmful
    assert template.startswith(f"{models['harmful']}: the chat template of the adapter's folder counts")
    assert [record.message for record in caplog.records if record.message in (useful, harmful)] == [useful, harmful]
    assert all(note in run.report.read_text() for note in ("is nearer to base than to aligned", "the chat template of"))
    run_study(study_of(models), run.root)
    manifest = run.read_manifest()
    assert manifest.notes == [useful, harmful, template, prompted]
    assert next(stage for stage in manifest.stages if stage.name == "roles").reused
    assert json.loads(run.roles.read_text()) == {"remarks": [useful, harmful]}


def test_one_model_as_base_and_aligned_is_refused_before_anything_is_trained(family, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(family["aligned"])
    copy = shutil.copytree(family["aligned"], tmp_path / "copy")
    for name in (family["aligned"], link):
        for planned in (plan, run_study):
            with pytest.raises(ConfigError, match="models.base and models.aligned have the same weights"):
                planned(study_of(family | {"base": str(name)}), tmp_path / "run")
    config = study_of(family | {"base": str(copy)}, {"contaminated": training(tmp_path)})
    with pytest.raises(ConfigError, match="have the same weights, ‖aligned − base‖ = 0: there is no alignment update"):
        run_study(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_study_that_needs_no_alignment_update_goes_on_without_one(family, tmp_path):
    config = study_of(family | {"base": family["aligned"]}, projection={"subspaces": ["random"], "fractions": [0.5]})
    run_study(config, tmp_path / "run")
    [note] = RunFolder(tmp_path / "run").read_manifest().notes
    assert note.endswith("have the same weights, ‖aligned − base‖ = 0: there is no alignment update")


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ([], True),
        (["overlap=null"], True),
        (["overlap=null", "projection=null"], True),
        (["overlap=null", "projection=null", "verdict=null"], False),
        (["overlap=null", "projection={subspaces: [safety, random]}", "verdict=null"], False),
        (["overlap=null", "projection={subspaces: [safety, random-k]}", "verdict=null"], True),
        (
            ["overlap=null", "projection=null", "verdict.hypotheses=[refusal-direction]", "verdict.tests=[update]"],
            False,
        ),
        (["overlap=null", "projection=null", "verdict.hypotheses=[lox]", "verdict.tests=[update]"], True),
    ],
)
def test_whether_a_study_needs_the_alignment_update(settings, needed):
    assert ("base" in needed_updates(load_study(bundled_study("organism"), settings))) == needed


ASKED = {"utility": {"task": "gsm8k"}, "harmfulness": {"prompts": "p.jsonl"}}


@pytest.mark.parametrize(
    ("hypothesis", "role"),
    [("resta", "harmful"), ("lssf-update", "harmful"), ("safety", "safe"), ("safemerge", "safe"), ("random", "useful")],
)
def test_a_model_that_is_aligned_itself_is_refused_where_its_update_is_tested(hypothesis, role, family):
    verdict = {"hypotheses": [hypothesis], "tests": ["update"]}
    models = {**family, "harmful": family["useful"], "safe": family["useful"], "contaminated": family["useful"]}
    fields = {"projection": None, "evaluation": ASKED, "verdict": verdict}
    role = "contaminated" if role == "useful" else role
    with pytest.raises(
        ConfigError, match=f"models.{role} and models.aligned have the same weights, .*: there is no up"
    ):
        check_one_model(study_of(models | {role: family["aligned"]}, **fields))
    check_one_model(study_of(models, **fields))
    # Of no account where no claim needs it.
    other = "safe" if role == "harmful" else "harmful"
    check_one_model(study_of(models | {other: family["aligned"]}, **fields))


def test_a_copy_of_aligned_as_harmful_is_refused_by_its_weights(family, tmp_path):
    copy = shutil.copytree(family["aligned"], tmp_path / "copy")
    config = study_of(family | {"harmful": str(copy)}, projection={"subspaces": ["harmful-update"], "fractions": [0.5]})
    with pytest.raises(ConfigError, match="‖harmful − aligned‖ = 0: there is no update; give as harmful a model"):
        run_study(config, tmp_path / "run")


@pytest.mark.parametrize("replicates", [1, 2])
def test_a_model_that_is_nowhere_leaves_no_run_folder(replicates, family, tmp_path):
    nowhere, trained = "safespan-tests/no-such-model", {"contaminated": training(tmp_path)}
    config = study_of(family | {"useful": nowhere}, trained, replicates=replicates)
    run = run_replicates if replicates > 1 else run_study
    with pytest.raises(CheckpointError, match=f"{nowhere} is no folder, it is not in the local cache"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
