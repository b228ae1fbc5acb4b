import json
import sys

import pytest

from safespan import cli
from safespan.study.costs import calibration, pieces_of_models
from safespan.study.costs.rates import START, read_calibration
from safespan.study.costs.work import Shape, Work, quantities

pytestmark = pytest.mark.long


def test_it_measures_every_kind_of_work_and_the_command_says_where_it_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_LARGE", (96, 192, 3))  # the real sizes take most of a minute
    monkeypatch.setattr(pieces_of_models, "_STEPS", ((1, 4), (1, 2)))
    monkeypatch.setattr(pieces_of_models, "_PROMPTS", ((2, 8), (2, 6)))
    monkeypatch.setattr(sys, "argv", ["safespan", "calibrate", "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    told = json.loads(capsys.readouterr().out)
    made = read_calibration(tmp_path / "cache" / "calibration" / told["file"].rpartition("/")[2])
    every = quantities(Work(), Shape(1))
    assert set(made.seconds) == {*every, START}
    assert made.model_dump(mode="json") == {name: value for name, value in told.items() if name != "file"}
    assert all(made.seconds[kind] > 0 for kind in ("probe", "figure", "judgement", START))
    for word in ("training", "generat"):  # how the time of parts that go together is split between them is chance
        assert any(seconds > 0 for kind, seconds in made.seconds.items() if word in kind)
