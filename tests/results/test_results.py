import math

import polars as pl
import pytest

from safespan.files.atomic import atomic_path, read_jsonl, write_jsonl
from safespan.results.run_folder import RunFolder
from safespan.results.tables import SCHEMAS, write_table


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def broken_write():
        with atomic_path(target) as part:
            part.write_text("ha")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        broken_write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "model") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_tables_keep_their_types_and_show_nan_as_empty(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, [{"a": "x, y", "b": math.nan}, {"a": "z", "b": 1 / 3}], {"a": pl.String, "b": pl.Float64})
    assert path.read_text() == 'a,b\n"x, y",\nz,0.333333\n'


def test_numbers_of_any_scale_keep_six_digits(tmp_path):
    schema = {"singular_value": pl.Float64, "energy": pl.Float64}
    rows = [{"singular_value": value, "energy": value} for value in (1.23456789e-9, 12.3456789, math.nan)]
    write_table(tmp_path / "t.csv", rows, schema)
    assert (tmp_path / "t.csv").read_text() == "singular_value,energy\n1.23457e-9,0.000000\n12.3457,12.345679\n,\n"
    assert pl.read_csv(tmp_path / "t.csv", schema=schema)["singular_value"].to_list() == [1.23457e-9, 12.3457, None]


def test_json_lines_round_trip(tmp_path):
    rows = [{"prompt": 'a "b"\nc', "score": 5}, {"prompt": "ü\u2028", "score": None}]
    write_jsonl(tmp_path / "g.jsonl", rows)
    assert read_jsonl(tmp_path / "g.jsonl") == rows


def test_a_run_folder_reads_its_tables(tmp_path):
    run = RunFolder(tmp_path)
    row = {"pair": "x-y", "group": "g", "granularity": "tensor", "layer": "g", "module": "g", "energy_fraction": 0.5}
    empty = ("mso", "mso_random", "mso_random_sd", "p_value", "angle_min", "angle_median")
    row |= {"k_x": 0, "k_y": 2, **dict.fromkeys(empty, math.nan)}
    write_table(run.table("overlap"), [row], SCHEMAS["overlap"])
    assert run.read_table("overlap").row(0, named=True) == row | dict.fromkeys(empty)
