"""What is done again and what is not: stages, and the records of what was asked and answered."""

import pytest

from safespan.evaluation import Scores
from safespan.evaluation.outcomes import outcomes
from safespan.files.atomic import atomic_path, read_jsonl, write_json, write_jsonl, write_text
from safespan.files.content import content_hash
from safespan.results import TABLES, RunFolder, schema_of, write_table
from safespan.study.points import PointStore, Record
from safespan.study.stage_log import StageLog
from safespan.study.stages import Stage


def do(run, name, outputs, work, key="key"):
    """One stage of a run that begins now; whether it was done."""
    done = []

    def counted(given):
        work()
        done.append(given)

    log = StageLog(run, [name])
    log.do(Stage(name, when=True, key=lambda: key, outputs=tuple(outputs), work=counted))
    [record] = log.records
    assert (record.name, record.reused) == (name, not done)
    assert done in ([], [key])
    return bool(done)


def test_a_stage_whose_table_lacks_a_column_of_today_is_done_again(tmp_path):
    run = RunFolder(tmp_path)
    table, header = run.table("spectra"), list(schema_of(TABLES["spectra"]))
    earlier = [name for name in header if name != "module"]
    assert do(run, "update overlap", [table], lambda: write_text(table, ",".join(earlier) + "\n"))
    assert do(run, "update overlap", [table], lambda: write_table(table, TABLES["spectra"], []))
    assert not do(run, "update overlap", [table], lambda: pytest.fail("its table is today's"))
    assert table.read_text() == ",".join(header) + "\n"


def test_a_stage_is_done_again_under_another_key(tmp_path):
    run = RunFolder(tmp_path)
    output = tmp_path / "output"
    results = [do(run, "data", [output], lambda: write_text(output, "text"), key) for key in ("a", "a", "b", "a")]
    assert results == [True, False, True, True]


@pytest.mark.parametrize("damage", ["other", "gone", "added"])
def test_a_stage_is_done_again_where_its_files_are_not_what_was_written(tmp_path, damage):
    run = RunFolder(tmp_path)
    model = run.checkpoint("base")

    def work():
        with atomic_path(model) as part:
            part.mkdir()
            (part / "weights").write_text("numbers")

    assert do(run, "model base", [model], work)
    assert not do(run, "model base", [model], work)
    {
        "other": lambda: (model / "weights").write_text("number5"),
        "gone": lambda: (model / "weights").unlink(),
        "added": lambda: (model / "README.md").write_text("of the user"),
    }[damage]()
    assert do(run, "model base", [model], work) == (damage != "added")
    assert (model / "weights").read_text() == "numbers"


def store_of(run, key="key", place="projection"):
    return PointStore(run, place, key, Scores)


def keep(store, name, weights="w"):
    """A record of a point, and the file of its one response."""
    write_jsonl(store.responses(name), [{"prompt": "a", "response": "b"}])
    scores = Scores(outcomes({}, [], [], 0), {"none": 0.5})
    return store.write(name, Record(store.key, weights, 2.0, {"switch": 1.0, "answer": 2.0}, scores))


def test_a_record_is_read_as_it_was_kept(tmp_path):
    run = RunFolder(tmp_path)
    kept = keep(store_of(run), "point")
    assert kept.responses == content_hash(store_of(run).responses("point"))
    read = store_of(run).read("point")
    assert (read.weights, read.energy, read.scored.utility_by_filter) == ("w", 2.0, {"none": 0.5})
    assert repr(read) == repr(kept)  # NaN, where nothing was measured, equals nothing
    assert store_of(run).names() == ["point"]
    assert store_of(run).read("another point") is None
    assert store_of(run, place="trials").read("point") is None


@pytest.mark.parametrize("damage", ["key", "overwritten", "removed", "cut", "fields"])
def test_a_record_that_does_not_stand_as_it_was_written_is_not_taken(tmp_path, damage):
    run = RunFolder(tmp_path)
    store = store_of(run)
    keep(store, "point")
    record, responses = run.root / "results" / "points" / "projection" / "point.json", store.responses("point")
    assert store.read("point") is not None
    {
        "key": lambda: None,
        # By another study, which was killed before its own record was written.
        "overwritten": lambda: write_jsonl(responses, [{"prompt": "a", "response": "c"}]),
        "removed": responses.unlink,
        "cut": lambda: record.write_text('{"key": '),
        "fields": lambda: write_json(record, {"key": "key", "outcomes": {}}),
    }[damage]()
    assert store_of(run, "another key" if damage == "key" else "key").read("point") is None


def test_a_record_without_responses_stands_until_there_are_some(tmp_path):
    store = store_of(RunFolder(tmp_path), place="trials")
    keep(store, "point")
    store.responses("point").unlink()
    assert store.write("point", keep(store, "another point")).responses is None
    assert store.read("point") is not None
    write_jsonl(store.responses("point"), [])
    assert store.read("point") is None


def test_a_point_of_the_same_weights_takes_over_its_answers(tmp_path):
    store = store_of(RunFolder(tmp_path))
    first = keep(store, "first")
    second = store.copy("second", of="first")
    assert (second.same_weights_as, second.seconds, second.weights) == ("first", {}, first.weights)
    assert read_jsonl(store.responses("second")) == read_jsonl(store.responses("first"))
    assert repr(store.read("second")) == repr(second)


def test_what_is_written_anew_belongs_to_the_responses_of_now(tmp_path):
    store = store_of(RunFolder(tmp_path))
    before = keep(store, "point")
    write_jsonl(store.responses("point"), [{"prompt": "a", "response": "judged again"}])
    assert store.read("point") is None
    after = store.write("point", before)
    assert after.responses != before.responses
    assert repr(store.read("point")) == repr(after)
