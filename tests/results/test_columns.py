from safespan.results.columns import BY_TABLE, SHARED, TABLES, described
from safespan.results.tables import OUTCOMES, SCHEMAS


def test_every_column_of_every_table_is_described():
    for name, schema in SCHEMAS.items():
        assert set(schema) <= set(described(name)), name
    assert list(TABLES) == list(SCHEMAS)


def test_nothing_is_described_that_is_not_there():
    assert set(BY_TABLE) == {*SCHEMAS, "outcomes"}
    for name, columns in BY_TABLE.items():
        assert set(columns) <= set(OUTCOMES if name == "outcomes" else SCHEMAS[name]), name
    own = {
        name: {*BY_TABLE[name], *(BY_TABLE["outcomes"] if name in ("models", "projection") else ())} for name in SCHEMAS
    }
    used = {column for name, schema in SCHEMAS.items() for column in schema if column not in own[name]}
    assert set(SHARED) == used


def test_ranges_are_put_into_words():
    assert described("models")["harmfulness"].range == "[1, 5]"
    assert described("overlap")["k_x"].range == "≥ 0"
    assert described("trials")["log_odds"].range == ""
