import math

import pytest

from safespan.statistics.intervals import wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (499, 520)])
def test_closed_form(k: int, n: int) -> None:
    z, p = 1.959963984540054, k / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    assert wilson(k, n) == pytest.approx(((centre - half) / scale, (centre + half) / scale), abs=1e-12)


def test_nothing_counted() -> None:
    assert all(math.isnan(bound) for bound in wilson(0, 0))
