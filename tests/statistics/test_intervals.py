import math

import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from safespan.statistics.intervals import paired_difference, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (499, 520)])
def test_closed_form(k: int, n: int) -> None:
    z, p = 1.959963984540054, k / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    assert wilson(k, n) == pytest.approx(((centre - half) / scale, (centre + half) / scale), abs=1e-12)


def test_nothing_counted() -> None:
    assert all(math.isnan(bound) for bound in wilson(0, 0))


def paired(both, first, second, neither):
    """Outcomes of two models whose four-fold table is this."""
    ones = [True] * (both + first) + [False] * (second + neither)
    twos = [True] * both + [False] * first + [True] * second + [False] * neither
    return ones, twos


# Fagerland, Lydersen and Laake (2014), table of the airway hyper-responsiveness data; Altman et al. (2000), page 52.
@pytest.mark.parametrize(
    ("table", "published"),
    [((1, 1, 7, 12), (-0.286, -0.507, -0.026)), ((14, 5, 0, 22), (0.122, 0.011, 0.226))],
)
def test_published_differences_of_paired_rates(table, published):
    assert [round(number, 3) for number in paired_difference(*paired(*table))] == list(published)


def test_pairs_without_correlation_have_the_interval_of_independent_rates():
    table = (20, 20, 30, 30)  # 20·30 = 20·30: no correlation
    low, high = confint_proportions_2indep(40, 100, 50, 100, method="newcomb", compare="diff")
    assert paired_difference(*paired(*table)) == pytest.approx((-0.1, low, high), abs=1e-12)


def test_equal_and_absent_outcomes():
    same, low, high = paired_difference(*paired(50, 0, 0, 50))
    assert same == 0
    assert low == pytest.approx(-high)
    assert high < 0.03  # of independent rates it would be 0.13
    assert paired_difference(*paired(0, 0, 0, 10))[0] == 0
    assert all(math.isnan(number) for number in paired_difference([], []))
