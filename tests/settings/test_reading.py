import pytest
from pydantic import BaseModel

from safespan.errors import ConfigError
from safespan.settings.reading import check_settings, load_settings, read_fields


class Inner(BaseModel):
    a: int
    b: int


class Outer(BaseModel):
    inner: Inner
    name: str = ""


def test_a_file_extends_another_field_by_field(tmp_path):
    (tmp_path / "parent.yaml").write_text("name: parent\ninner: {a: 1, b: 2}\n")
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\ninner: {b: 3}\n")
    read = load_settings(tmp_path / "child.yaml", Outer, ["inner.a=7"])
    assert (read.name, read.inner.a, read.inner.b) == ("parent", 7, 3)


def test_files_that_extend_each_other_or_nothing(tmp_path):
    (tmp_path / "one.yaml").write_text("extends: two.yaml\n")
    (tmp_path / "two.yaml").write_text("extends: one.yaml\n")
    with pytest.raises(ConfigError, match="extends it in turn"):
        load_settings(tmp_path / "one.yaml", Outer)
    (tmp_path / "two.yaml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*two\.yaml"):
        load_settings(tmp_path / "one.yaml", Outer)


def test_settings_leave_the_given_fields_as_they_were():
    given = {"inner": {"a": 1, "b": 2}}
    assert check_settings(given, Outer, ["inner.a=7"], "here").inner.a == 7
    assert given == {"inner": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "'a' is given twice in line 2"),
        ("", "a.yaml is empty: expected named fields"),
        ("- 1", "a.yaml holds a list: expected named fields"),
        ("a: &a [*a]", "recursive|nested deeper|more than"),
        (
            "a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)),
            "aliases written",
        ),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 50"),
        ("a: " + "[" * 5000, "cannot read"),
        ("a: 2001-99-99", "month must be"),
        ('a: "\\ud800"', "surrogates"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_hostile_yaml(text, said, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_fields(path)


def test_folders_and_files_that_are_no_text(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"a\.yaml: it is not UTF-8 text$"):
        read_fields(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="it is a folder$"):
        read_fields(tmp_path)


def test_what_is_wrong_in_the_file_is_told_of_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("inner: {a: 1, b: x}")
    with pytest.raises(ConfigError, match=r"a\.yaml: inner\.b: expected a whole number, given 'x'"):
        load_settings(tmp_path / "a.yaml", Outer, ["name=y"])
    with pytest.raises(ConfigError, match="^--set: inner.a: it is missing|^--set: inner.a: expected"):
        load_settings(tmp_path / "a.yaml", Outer, ["inner.b=2", "inner.a=z"])


def test_a_file_that_extends_itself_by_another_way_round(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.yaml").write_text("extends: ../in/a.yaml")
    with pytest.raises(ConfigError, match="extends it in turn"):
        read_fields(tmp_path / "in" / "a.yaml")
