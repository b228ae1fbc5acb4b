import pytest

from safespan.errors import DataError
from safespan.results import Manifest, RunFolder, write_table
from safespan.results.tables import OverlapRow
from table_rows import row_of


def test_a_run_folder_reads_its_tables(tmp_path):
    run = RunFolder(tmp_path)
    cells = {"x": "useful", "y": "harmful", "again": False, "group": "g", "granularity": "tensor", "layer": "g"}
    cells |= {"module": "g", "energy_fraction": 0.5, "k_x": 0, "k_y": 2}
    write_table(run.table("overlap"), OverlapRow, [row_of(OverlapRow, **cells)])
    empty = ("mso", "mso_random", "mso_random_sd", "p_value", "angle_min", "angle_median")
    assert run.read_table("overlap").row(0, named=True) == cells | dict.fromkeys(empty)


def test_a_file_that_is_a_link_out_of_the_folder_is_none_of_it(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.data.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (run.root / "own").write_text("own")
    (run.data / "inside").symlink_to(run.root / "own")
    (run.data / "outside").symlink_to(tmp_path / "secret")
    assert run.has(run.data / "inside")
    assert not run.has(run.data)
    assert not run.has(run.data / "absent")
    with pytest.raises(DataError, match="outside is a link out of its run folder: put a copy of the file in its place"):
        run.has(run.data / "outside")


def test_a_folder_without_a_manifest_has_one_with_its_name_alone(tmp_path):
    assert RunFolder(tmp_path / "mine").read_manifest() == Manifest(name="mine")
    run = RunFolder(tmp_path)
    Manifest(name="another", seed=3).write(run.manifest)
    assert run.read_manifest() == Manifest(name="another", seed=3)
