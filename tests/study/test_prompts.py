"""Prompts of claims: two classes, and others than those that are asked. Said first, and kept with the verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from faults.study import LETTERS, write_study
from safespan.errors import DataError
from safespan.files.atomic import write_jsonl
from safespan.results import RunFolder
from safespan.settings.study import StudyConfig
from safespan.study.plan import plan
from safespan.study.prompts import check_classes
from safespan.study.run import run_study
from tiny_model import save_tiny_model

ALL = ("activations.useful", "activations.harmful", "evaluation.harmfulness.prompts", "verdict.useful")


@pytest.fixture
def fields(tmp_path: Path) -> dict[str, Any]:
    """The ablation test of a claim that is made of 8 prompts of each class, none of which is asked."""
    fields: dict[str, Any] = json.loads(write_study(tmp_path, save_tiny_model, "http://127.0.0.1:9/v1").read_text())
    fields["models"] = {"aligned": fields["models"]["aligned"]}
    fields |= {"projection": None, "overlap": None}
    fields["evaluation"]["harmfulness"]["judge"] = "rules"
    for kind, word in (("useful", "b"), ("harmful", "c")):
        write_jsonl(tmp_path / f"{kind}.jsonl", [{"prompt": f"{word} {x}", "target": "a"} for x in LETTERS[:8]])
    write_jsonl(tmp_path / "asked.jsonl", [{"prompt": f"help {x}", "target": "a"} for x in LETTERS[:8]])
    fields["activations"] |= {"useful": str(tmp_path / "useful.jsonl"), "harmful": str(tmp_path / "harmful.jsonl")}
    fields["evaluation"]["harmfulness"]["prompts"] = str(tmp_path / "asked.jsonl")
    fields["verdict"] |= {"tests": ["ablation"], "hypotheses": ["actsvd"], "prompts": 4}
    return fields


def remarks(fields: dict[str, Any], readable: tuple[str, ...] = ALL) -> list[str]:
    return check_classes(StudyConfig.model_validate(fields), readable)


def test_one_class_for_both_is_refused_by_a_plan_and_by_a_run(fields, tmp_path):
    same = fields | {"activations": fields["activations"] | {"useful": fields["activations"]["harmful"]}}
    one = {"useful": {"file": fields["activations"]["useful"], "rows": 1}}
    few = fields | {"activations": fields["activations"] | one}
    for wrong, says in ((same, "the same 8 rows"), (few, "useful prompts: .* 1 row with 1 different prompt")):
        for check in (plan, run_study):
            with pytest.raises(DataError, match=f"^activations: .*{says}"):
                check(StudyConfig.model_validate(wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_prompts_that_stand_apart_give_no_remark_and_halves_of_a_class_are_no_fault(fields):
    fields["activations"]["halves"] = True
    assert remarks(fields) == []


def test_harmful_prompts_that_are_asked_too_are_counted_up_to_the_limits(fields):
    fields["evaluation"]["harmfulness"]["prompts"] = fields["activations"]["harmful"]
    [remark] = remarks(fields)
    assert remark.startswith("activations.harmful: 4 of 8 prompts are also asked in the tests")  # verdict.prompts
    assert "(actsvd)" in remark
    fields["evaluation"]["harmfulness"]["limit"] = 3
    assert remarks(fields)[0].startswith("activations.harmful: 3 of 8")
    # It is of no account to a claim that is not made from prompts, nor before the prompts are there.
    assert remarks(fields, ALL[:1]) == remarks(fields, ALL[:2]) == []
    fields["verdict"]["hypotheses"] = ["random"]
    assert remarks(fields) == []


def test_useful_prompts_are_held_against_the_questions_of_the_verdict(fields, tmp_path):
    task = [f"a b {x}" for x in LETTERS[:6]]  # those of the utility task
    write_jsonl(tmp_path / "useful.jsonl", [{"prompt": one} for one in [*task[2:], "x"]])
    [remark] = remarks(fields)
    assert remark.startswith("activations.useful: 2 of 5 prompts are also asked in the tests")
    # A question with words around the text of its document is that prompt too.
    text = (tmp_path / "task.yaml").read_text()
    (tmp_path / "task.yaml").write_text(text.replace("{{prompt}}", "Q: {{prompt}} A:"))
    assert remarks(fields) == [remark]
    fields["verdict"]["useful"] = fields["activations"]["useful"]
    assert remarks(fields)[0].startswith("activations.useful: 4 of 5")


def test_the_remarks_are_logged_and_kept_beside_the_verdict(fields, tmp_path, caplog):
    write_jsonl(tmp_path / "useful.jsonl", [{"prompt": one} for one in ("b a", "b b", "c a")])
    fields["evaluation"]["harmfulness"]["prompts"] = fields["activations"]["harmful"]
    report = run_study(StudyConfig.model_validate(fields), tmp_path / "run")
    said = [
        "activations: prompts in both classes: 1, of 3 useful and 8 harmful ones",
        "activations.harmful: 4 of 8 prompts are also asked in the tests",
    ]
    notes = RunFolder(tmp_path / "run").read_manifest().notes
    for line in said:
        assert [one for one in notes if one.startswith(line)]
        assert len([one for one in caplog.messages if one.startswith(line)]) == 1
        assert line in report.read_text(encoding="utf-8")
