"""What hypotheses need is checked when a study is planned or run, and not when its file is read."""

import pytest

from safespan.errors import ConfigError
from safespan.settings.names import NAMED_ONLY, PLANTED, TESTS, hypothesis_names
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.study import needs
from safespan.study.plan import plan
from safespan.subspaces import find_hypothesis

NO_PROMPTS = "activations=null"
NEEDS = {name: find_hypothesis(name).needs for name in hypothesis_names()}
CLAIMS = [name for name in hypothesis_names() if name not in NAMED_ONLY]


def study(*settings: str, without: str | None = None) -> StudyConfig:
    """The organism's study, without the model of one role."""
    fields = load_study(bundled_study("organism"), settings).model_dump(mode="json", exclude_unset=True)
    if without:
        del fields["models"][without]
        if without == "harmful" and fields["verdict"]:
            fields["verdict"]["training"] = {"hypotheses": ["alignment"]}
        if fields["activations"]:
            fields["activations"]["models"] = ["base", "aligned"]
        fields["overlap"]["ceiling"] = None
    return StudyConfig.model_validate(fields)


def test_the_bundled_study_meets_its_needs():
    needs.check_needs(study())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ["verdict.hypotheses=[safety]"],
            "verdict.hypotheses: 'safety' needs a safe model .*: give models.safe .safespan test: --safe., or leave",
        ),
        (
            ["verdict.hypotheses=[alignment, actsvd]", NO_PROMPTS],
            "verdict.hypotheses: 'actsvd' needs useful .*: give activations .safespan test: --prompts., or leave",
        ),
        (
            ["projection.subspaces=[safety]"],
            "projection.subspaces: 'safety' needs a safe model, which the projection grid does not have",
        ),
        (["projection.subspaces=[random, safety]"], "projection.subspaces: 'safety' needs a safe model"),
        # The grid of projections has no activations, whether or not the study captures them.
        (
            ["projection.subspaces=[refusal-direction]"],
            "projection.subspaces: 'refusal-direction' needs useful and harmful prompts, which the projection grid",
        ),
        (["projection.subspaces=[safelora]"], "projection.subspaces: 'safelora' names no subspace"),
        (["projection.subspaces=[lox]"], "projection.subspaces: 'lox' names no subspace: test it"),
        (
            ["projection.subspaces=[random, task-update]"],
            "projection.subspaces: 'task-update' is a subspace of each fine-tune's own update, which the grid does not",
        ),
    ],
)
def test_what_is_lacking_is_named_with_the_hypothesis(settings, says, tmp_path):
    config = study(*settings, without="safe")  # a study file may be read where its models are not yet settled
    for check in (lambda: needs.check_needs(config), lambda: plan(config, tmp_path)):
        with pytest.raises(ConfigError, match=says):
            check()


def test_a_claim_about_the_harmful_update_needs_one():
    named = "verdict.hypotheses=[harmful-update]"
    with pytest.raises(ConfigError, match="verdict.hypotheses: 'harmful-update' needs a harmful fine-tune"):
        needs.check_needs(study(named, without="harmful"))
    needs.check_needs(study(named))


def test_what_is_given_is_not_missed():
    named = ["verdict.hypotheses=[safety, actsvd]", "projection.subspaces=[safety, harmful-update]"]
    needs.check_needs(study(*named))
    needs.check_needs(study("verdict=null", "projection=null"))


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({}, set()),
        ({"without": "safe"}, {"safe"}),
        ({"without": "harmful"}, {"harmful"}),
        ({"settings": [NO_PROMPTS], "without": "safe"}, {"prompts", "safe"}),
    ],
)
def test_all_hypotheses_are_tested_whose_needs_are_met(changes, absent):
    settings = ["verdict.hypotheses=null", *changes.get("settings", [])]
    config = study(*settings, without=changes.get("without"))
    tested = needs.tested_hypotheses(config, "update")
    assert tested == [name for name in CLAIMS if not NEEDS[name] & absent]
    assert (tested == CLAIMS) == (not absent)


def test_hypotheses_that_are_named_are_tested_and_no_others():
    named = study(f"verdict.hypotheses=[lox, {PLANTED}]", "verdict.ablation={}", "verdict.training={}")
    assert needs.tested_hypotheses(named, "update") == ["lox", PLANTED]
    assert needs.tested_hypotheses(named, "ablation") == []  # neither has it
    assert needs.tested_hypotheses(named, "training") == [PLANTED]
    assert needs.tested_hypotheses(study("verdict=null"), "update") == []


def test_a_claim_that_lacks_one_of_the_tests_is_said():
    named = study(f"verdict.hypotheses=[lox, {PLANTED}]", "verdict.ablation={}", "verdict.training={}")
    named = named.model_copy(update={"verdict": named.verdict.model_copy(update={"tests": ("update", "training")})})
    assert needs.left_out(named) == ["training test: without lox, named in the study: they have no such test"]
    assert needs.left_out(study()) == needs.left_out(study("verdict=null")) == []


def test_settings_of_a_test_that_is_not_chosen_are_said():
    settings = ["verdict.training.hypotheses=[asft]", "verdict.training.penalty=2", "verdict.training.points=6"]
    unused = "not used, as the study has no such test: verdict.training.hypotheses, verdict.training.penalty"
    assert needs.left_out(study("verdict.tests=[update, ablation]", *settings)) == [unused]  # 6 points are the default
    assert needs.left_out(study(*settings)) == []


def test_each_test_can_have_hypotheses_of_its_own():
    config = study("verdict.hypotheses=[alignment]", "verdict.ablation.hypotheses=[actsvd, random]")
    tested = {test: needs.tested_hypotheses(config, test) for test in TESTS}
    assert tested == {
        "update": ["alignment"],
        "ablation": ["actsvd", "random"],
        "training": ["alignment", "harmful-update", "random"],
    }
    assert needs.tested_hypotheses(study("verdict.tests=[training]"), "update") == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ["verdict.training.hypotheses=[safelora]"],
            "verdict.training.hypotheses: 'safelora' cannot be put to the training test, it has update: choose",
        ),
        (
            ["verdict.training.hypotheses=[task-update]"],
            "verdict.training.hypotheses: 'task-update' cannot be put to the training test, it has update: choose",
        ),
        (
            ["verdict.tests=[ablation]", "verdict.hypotheses=[lox]"],
            "verdict.hypotheses: 'lox' cannot be put to the ablation test, it has update",
        ),
        (
            ["verdict.hypotheses=[alignment, asft]"],
            "verdict.hypotheses: 'asft' cannot be put to the update test, it has training: name it in "
            "verdict.training.hypotheses, or leave",
        ),
        (
            ["verdict.ablation.hypotheses=[actsvd]", NO_PROMPTS],
            "verdict.ablation.hypotheses: 'actsvd' needs useful and harmful prompts for the ablation test",
        ),
    ],
)
def test_a_test_that_a_claim_cannot_be_put_to_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        needs.check_needs(study("verdict.hypotheses=[alignment]", *settings))


@pytest.mark.parametrize("roles", [("aligned",), ("aligned", "harmful")])
def test_a_claim_of_the_update_test_alone_needs_a_fine_tune(roles):
    fields = {
        **load_study(bundled_study("organism")).model_dump(mode="json", include={"name", "evaluation"}),
        "models": {role: {"model": f"org/{role}"} for role in roles},
        **dict.fromkeys(("projection", "overlap")),
        "verdict": {"hypotheses": ["resta"]},
    }
    says = "'resta' has no ablation test, and its update test needs a fine-tune: give .*safespan test: --contaminated"
    with pytest.raises(ConfigError, match=says):
        needs.check_needs(StudyConfig.model_validate(fields))
    fields["verdict"]["tests"] = ["ablation"]
    with pytest.raises(ConfigError, match="cannot be put to the ablation test, it has update: choose"):
        needs.check_needs(StudyConfig.model_validate(fields))
