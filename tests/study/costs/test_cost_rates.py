import pytest

from safespan.errors import DataError
from safespan.study.costs.rates import (
    Calibration,
    calibration_file,
    fitted,
    known_rates,
    this_machine,
    write_calibration,
)
from safespan.study.costs.work import Shape, Work, quantities

SHAPE = Shape(parameters=1000, tensors=10, matrices=((10, 10),) * 8)


def calibration(threads=1, **seconds):
    machine = this_machine()
    return Calibration(
        processor=machine.processor,
        device=machine.device,
        threads=threads,
        made="2026-01-01T00:00:00+00:00",
        safespan="0",
        parameters=(1000, 10_000),
        seconds=seconds,
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))


def test_rates_that_made_the_samples_are_found_again():
    true = {"training": 0.5, "training, a step": 0.01, "training, a token and parameter": 1e-9}
    larger = Shape(parameters=50_000)
    works = [(Work(trainings=1, steps=n, trained_tokens=100 * n), shape) for n in (2, 40) for shape in (SHAPE, larger)]
    samples = [quantities(work, shape) for work, shape in works]
    found = fitted([(one, sum(true.get(kind, 0) * amount for kind, amount in one.items())) for one in samples])
    assert found == pytest.approx(true)


def test_time_is_the_sum_over_kinds_of_work():
    work = Work(steps=3, trained_tokens=200, recomputed_tokens=200, points=2, held_steps=3)
    rates = {
        "training, a step": 1.0,
        "training, a token and parameter": 0.001,
        "point, a tensor": 0.1,
        "protection, a step and matrix": 2.0,
    }
    # Tokens whose activations are computed twice cost a third more.
    expected = 3 * 1.0 + 200 * 4 / 3 * 1000 * 0.001 + 2 * 10 * 0.1 + 3 * 8 * 2.0
    assert calibration(**rates).time_of(work, SHAPE) == pytest.approx(expected)


def test_a_kind_of_work_without_a_rate_is_named():
    work = Work(steps=3, probes=2)
    assert calibration(**{"training, a step": 1.0}).lacks(work, SHAPE) == ["probe"]
    assert calibration(**{"training, a step": 1.0, "probe": 0.0}).lacks(work, SHAPE) == []


def test_work_adds_up_and_multiplies():
    assert Work(steps=2, points=1) + Work(steps=3) == Work(steps=5, points=1)
    assert Work(steps=2, points=1) * 3 == Work(steps=6, points=3)


def test_rates_are_kept_by_threads_and_the_nearest_ones_serve():
    assert known_rates(1) is None
    one, four = calibration(1, training=1.0), calibration(4, training=4.0)
    assert [write_calibration(made) for made in (one, four)] == [calibration_file(1), calibration_file(4)]
    assert (known_rates(1), known_rates(4), known_rates(3), known_rates(16)) == (one, four, four, four)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"seconds": {"training": -1}}', "\0"])
def test_a_broken_file_is_refused_in_one_line(text):
    file = calibration_file(1)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(DataError, match="is no calibration .*run safespan calibrate again$"):
        known_rates(1)
