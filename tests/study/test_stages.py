import pytest

from safespan.study.experiments import answered_point, point_file
from safespan.files.atomic import atomic_path, write_json, write_jsonl
from safespan.files.content import content_hash
from safespan.results.run_folder import RunFolder
from safespan.results.tables import SCHEMAS, write_table
from safespan.study.stages import Stages


def test_a_stage_whose_table_lacks_a_column_of_today_is_done_again(tmp_path):
    run, done = RunFolder(tmp_path), []
    schema = SCHEMAS["spectra"]
    earlier = {name: kind for name, kind in schema.items() if name != "module"}

    def stage(columns):
        def work():
            write_table(run.table("spectra"), [], columns)
            done.append(len(columns))

        Stages(run, ["update overlap"]).stage("update overlap", "key", [run.table("spectra")], work)

    stage(earlier)
    stage(schema)
    stage(schema)
    assert done == [len(schema) - 1, len(schema)]


@pytest.mark.parametrize("damage", ["other", "gone", "added"])
def test_a_stage_is_done_again_where_its_files_are_not_what_was_written(tmp_path, damage):
    run, done = RunFolder(tmp_path), []
    model = run.checkpoint("base")

    def work():
        with atomic_path(model) as part:
            part.mkdir()
            (part / "weights").write_text("numbers")
        done.append(1)

    def stage():
        Stages(run, ["model base"]).stage("model base", "key", [model], work)

    stage()
    stage()
    assert len(done) == 1
    {
        "other": lambda: (model / "weights").write_text("number5"),
        "gone": lambda: (model / "weights").unlink(),
        "added": lambda: (model / "README.md").write_text("of the user"),
    }[damage]()
    stage()
    assert len(done) == (1 if damage == "added" else 2)
    assert (model / "weights").read_text() == "numbers"


def test_what_another_study_wrote_over_a_point_is_not_taken_for_its_answer(tmp_path):
    run = RunFolder(tmp_path)
    write_jsonl(run.generations("base"), [{"prompt": "a", "response": "b"}])
    kept = {"key": "key", "outcomes": {}, "said": content_hash(run.generations("base"))}
    write_json(point_file(run, "base"), kept)
    assert answered_point(run, "base", "key") == kept
    assert answered_point(run, "base", "another key") is None
    # The other study was killed before its own point stood.
    write_jsonl(run.generations("base"), [{"prompt": "a", "response": "c"}])
    assert answered_point(run, "base", "key") is None
    run.generations("base").unlink()
    assert answered_point(run, "base", "key") is None
    point_file(run, "base").write_text('{"key": ')
    assert answered_point(run, "base", "key") is None
