"""A short campaign with every kind of hostile input, inputs that hypothesis makes, and that a campaign can fail."""

from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import campaign
from fuzz.campaign import Tally, one, run
from fuzz.guided import guided
from fuzz.kinds import KINDS, Kind
from safespan.errors import SafespanError

FAST = [name for name, kind in KINDS.items() if kind.share >= 40]


@pytest.mark.long
def test_a_short_campaign() -> None:
    tallies = run(2000, seed=1)
    assert {name: tally.others for name, tally in tallies.items() if tally.others} == {}
    assert all(tallies[name].successes for name in FAST if name != "model name")
    assert all(tallies[name].refusals for name in FAST if name != "judge's reply")


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_inputs_that_hypothesis_makes(name, tmp_path_factory, random) -> None:
    tally = Tally()
    one(KINDS[name], random, tmp_path_factory.mktemp("fuzz") / "box", tally, name)
    assert tally.others == []


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is installed on Linux on x86-64 only: wheels")
@pytest.mark.parametrize("kind", ["safetensors file", "PEFT adapter"])
def test_inputs_that_atheris_finds(kind) -> None:
    tally = guided(kind, 500)
    assert tally.others == []
    assert (tally.inputs, bool(tally.successes), bool(tally.refusals)) == (500, True, True)


def _crash(folder: Path) -> str:
    raise KeyError("x")


def _refuse(folder: Path) -> str:
    raise SafespanError("x")


def _wait(folder: Path) -> str:
    while True:
        pass


def _take(folder: Path) -> str:
    return str(len(b"x" * (200 * 2**20)))


def _escape(folder: Path) -> str:
    return str((folder.parent / "out").write_text("x"))


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (_crash, "KeyError"),
        (_wait, "Hung"),
        (_take, "MB over a file of 1 bytes"),
        (_escape, "outside the folder changed"),
        (_refuse, None),
        (str, None),
    ],
)
def test_a_campaign_notices(read, said, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(campaign, "SECONDS", 1)
    tally = Tally()
    one(Kind(lambda _, folder: folder.joinpath("x").write_text("x") and None, read, 1), Random(0), tmp_path / "box",
        tally, "here")  # fmt: skip
    assert [said in other for other in tally.others] == [True] if said else tally.others == []
    assert (tally.successes, tally.refusals) == ((1, 0) if read in (str, _take, _escape) else (0, read is _refuse))
