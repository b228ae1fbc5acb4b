import errno
import os
from pathlib import Path

import pytest

from safespan.errors import ConfigError, DiskFullError
from safespan.files.atomic import append, atomic_path, write_text
from safespan.files.disk import check_replaceable, explain_disk_full, make_folder
from safespan.files.locks import exclusive_lock


def write_folder(target: Path) -> None:
    with atomic_path(target) as part:
        part.mkdir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_wherever_it_is_in_the_chain(tmp_path, number):
    place = tmp_path / "no" / "table.csv"

    def full():
        with explain_disk_full(place):
            try:
                raise OSError(number, os.strerror(number))
            except OSError as error:
                raise RuntimeError("could not save") from error

    with pytest.raises(DiskFullError) as raised:
        full()
    assert str(raised.value).startswith(f"{place} cannot be written: {os.strerror(number)}, ")
    assert "MB free there; make space and run the same command again" in str(raised.value)


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="^something else$"), explain_disk_full(tmp_path):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        pytest.param(lambda place: make_folder(place / "file" / "new"), "file", id="a folder below a file"),
        pytest.param(lambda place: write_text(place / "file" / "new", "x"), "file", id="a file below a file"),
        pytest.param(lambda place: write_text(place / "folder", "x"), "folder", id="a file over a folder"),
        pytest.param(lambda place: append(place / "folder", "x"), "folder", id="a line at the end of a folder"),
        pytest.param(lambda place: write_folder(place / "file"), "file", id="a folder over a file"),
        pytest.param(lambda place: write_text(place / ("x" * 300), "x"), "x" * 300, id="a long name"),
        pytest.param(lambda place: exclusive_lock(place / "file").__enter__(), "file", id="a run in a file"),
        pytest.param(lambda _: write_text(Path("/proc/x"), "x"), "/proc/x", id="where nothing can be made"),
    ],
)
def test_where_nothing_can_be_written_is_one_line(tmp_path, write, name):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"{name} cannot be written: .+; give another place"):
        write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_model_of_a_run_is_not_replaced(tmp_path):
    model = tmp_path / "run" / "checkpoints" / "aligned"
    model.mkdir(parents=True)
    check_replaceable(model, "is no trained model", lambda folder: True)
    (tmp_path / "run" / "stages.json").write_text("{}")
    with pytest.raises(ConfigError, match="checkpoints/aligned is a model of the run in .*: give a folder outside"):
        check_replaceable(model, "is no trained model", lambda folder: True)
    check_replaceable(tmp_path / "run" / "checkpoints" / "new", "is no trained model", lambda folder: True)
