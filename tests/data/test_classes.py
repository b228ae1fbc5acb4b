"""Two classes of prompts: each large enough, and not one and the same."""

from pathlib import Path

import pytest

from safespan.data.classes import read_classes, shared_by_classes
from safespan.errors import DataError
from safespan.settings.data import PromptSource


def source(folder: Path, name: str, *prompts: str) -> PromptSource:
    (folder / name).write_text("\n".join(prompts))
    return PromptSource(file=str(folder / name))


def test_classes_that_are_one_are_refused_whatever_their_files_and_order(tmp_path: Path) -> None:
    useful = source(tmp_path, "u.txt", "a", "b", "c")
    for harmful in (useful, source(tmp_path, "h.txt", "c", "a ", "b", "b")):
        with pytest.raises(DataError, match=r"useful and harmful prompts are the same 3 rows: .*u\.txt and .*\.txt"):
            read_classes(useful, harmful)


def test_prompts_in_both_classes_are_counted(tmp_path: Path) -> None:
    useful = source(tmp_path, "u.txt", "a", "b", "c")
    apart = read_classes(useful, source(tmp_path, "h.txt", "x", "y"))
    assert [[prompt.prompt for prompt in prompts] for prompts in apart.values()] == [["a", "b", "c"], ["x", "y"]]
    assert shared_by_classes(apart) == []
    [remark] = shared_by_classes(read_classes(useful, source(tmp_path, "h.txt", "x", "b", "a", "y")))
    assert remark.startswith("prompts in both classes: 2, of 3 useful and 4 harmful ones")


@pytest.mark.parametrize(("rows", "says"), [(["x"], "1 row with 1 different"), (["x", "x"], "2 rows with 1 different")])
def test_a_class_of_one_prompt_is_refused(rows: list[str], says: str, tmp_path: Path) -> None:
    two = source(tmp_path, "two.txt", "a", "b")
    few = source(tmp_path, "few.txt", *rows)
    with pytest.raises(DataError, match=rf"^useful prompts: .*few\.txt has {says} prompt, expected at least 2"):
        read_classes(few, two)
    with pytest.raises(DataError, match=r"^harmful prompts: "):
        read_classes(two, few)
