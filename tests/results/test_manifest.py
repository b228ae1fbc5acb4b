import json

import pytest

from safespan.errors import DataError
from safespan.results import Manifest
from safespan.results.manifest import PromptsRecord, StageRecord

WHOLE = Manifest(
    name="study",
    command="safespan run study.yaml",
    config={"seed": 1, "verdict": {"margin": 0.1}},
    seed=1,
    versions={"python": "3.11"},
    hardware={"cpu": "x", "cores": 2, "gpu": None, "memory_gb": 7.5},
    stages=[StageRecord(name="data", seconds=1.5, reused=False)],
    inputs={"base": "0a"},
    tables={"models": "1b", "overlap": None},
    prompts={"harmful": PromptsRecord(rows=3, sha256="2c")},
    judge=[{"judge": "llm", "replies": 3}],
    training={"useful": {"loss": [1.0, 0.5]}},
    created="2025-01-01",
)


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    WHOLE.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == WHOLE
    assert list(json.loads((tmp_path / "manifest.json").read_text())) == list(Manifest.model_fields)


def test_what_is_absent_is_empty_and_what_is_unknown_is_left_out(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text('{"name": "study", "config": {}, "of a later version": [1]}')
    assert Manifest.read(path) == Manifest(name="study")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"seed": "one"}', "wrong seed"),
        ('{"stages": [{"name": "data", "seconds": 1}]}', "wrong stages.0.reused"),
        ('{"stages": [{"name": "data", "seconds": NaN, "reused": true}]}', "wrong stages.0.seconds"),
        ('{"prompts": {"harmful": {"rows": 1}}}', "wrong prompts.harmful.sha256"),
        ("[]", "wrong content"),
        ('{"a": 1}', "is not the manifest of a run, as it has no field config: put the run's own manifest.json there"),
        ("{", "cannot read"),
        ('{"name": "\\ud800"}', "cannot read"),
        ("[" * 100_000, "cannot read"),
    ],
)
def test_what_no_run_writes_is_one_line(tmp_path, text, says):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        Manifest.read(path)
    assert says in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent\.json .*: expected the manifest\.json of a run"):
        Manifest.read(tmp_path / "absent.json")
