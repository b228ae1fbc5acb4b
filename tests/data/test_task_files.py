"""Which files an lm-eval task reads, so that a change in any of them is noticed."""

from pathlib import Path

import pytest
import yaml

from safespan.data.task_files import task_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; tasks lie in its folder `tasks`, data in its folder `data`."""
    for name in ("tasks", "data", "data/more"):
        (tmp_path / name).mkdir()
    for name in ("data/a.jsonl", "data/b.jsonl", "data/more/c.jsonl", "data/notes.txt"):
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, content: object) -> str:
    path = folder / "tasks" / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def read_by(folder: Path, task: str) -> set[str]:
    files = task_files(task)
    assert files == sorted(set(files))
    return {str(file.resolve().relative_to(folder)) for file in files}


def test_a_task_that_lm_eval_knows_by_name_has_no_files(folder: Path) -> None:
    (folder / "gsm8k").write_text("task: gsm8k")
    assert task_files("gsm8k") == task_files("no/such/task.yaml") == task_files("a\0b.yaml") == []
    assert task_files("x" * 5000 + ".yaml") == []


@pytest.mark.parametrize("name", ["task.yaml", "task.yml"])
def test_a_task_of_ones_own_is_its_yaml_file_at_least(folder: Path, name: str) -> None:
    task = write(folder, name, {"task": "mine", "dataset_path": "org/of-the-hub", "output_type": "generate_until"})
    assert read_by(folder, task) == {f"tasks/{name}"}
    assert task_files(f"tasks/{name}") == task_files(task)


def test_files_that_include_others_wherever_they_lie(folder: Path) -> None:
    (folder / "tasks" / "in").mkdir()
    task = write(folder, "task.yaml", {"include": "in/shared.yaml"})
    write(folder, "in/shared.yaml", {"include": "../other.yaml", "dataset_path": "data"})
    write(folder, "other.yaml", {"include": "absent.yaml"})
    assert read_by(folder, task) == {"tasks/task.yaml", "tasks/in/shared.yaml", "tasks/other.yaml", "data"}


def test_includes_in_a_circle_end(folder: Path) -> None:
    task = write(folder, "task.yaml", {"include": "other.yaml"})
    write(folder, "other.yaml", {"include": "../tasks/task.yaml"})
    assert read_by(folder, task) == {"tasks/task.yaml", "tasks/other.yaml"}


def test_the_python_files_of_its_functions(folder: Path) -> None:
    for name in ("utils.py", "metrics.py", "unused.py"):
        (folder / "tasks" / name).write_text("")
    (folder / "tasks" / "deep").mkdir()
    (folder / "tasks" / "deep" / "docs.py").write_text("")
    text = (
        "process_docs: !function deep.docs.process\n"
        "doc_to_text: !function utils.to_text\n"
        "metric_list: [{metric: !function metrics.exact}, {metric: !function absent.one}]\n"
        "doc_to_target: unused.target\n"
    )
    task = write(folder, "task.yaml", text)
    assert read_by(folder, task) == {
        f"tasks/{name}" for name in ("task.yaml", "utils.py", "metrics.py", "deep/docs.py")
    }


@pytest.mark.parametrize(
    ("given", "files"),
    [
        pytest.param("data/a.jsonl", {"data/a.jsonl"}, id="text"),
        pytest.param(["data/a.jsonl", "data/b.jsonl"], {"data/a.jsonl", "data/b.jsonl"}, id="list"),
        pytest.param(
            {"test": "data/a.jsonl", "train": ["data/b.jsonl"]}, {"data/a.jsonl", "data/b.jsonl"}, id="splits"
        ),
        pytest.param({"test": "data/*.jsonl"}, {"data/a.jsonl", "data/b.jsonl"}, id="pattern"),
        pytest.param(
            "data/**/*.jsonl", {"data/a.jsonl", "data/b.jsonl", "data/more/c.jsonl"}, id="pattern of every depth"
        ),
        pytest.param("data/absent.jsonl", set(), id="absent"),
        pytest.param("https://example.org/a.jsonl", set(), id="address"),
    ],
)
def test_its_data_files(folder: Path, given: object, files: set[str]) -> None:
    task = write(folder, "task.yaml", {"dataset_path": "json", "dataset_kwargs": {"data_files": given}})
    assert read_by(folder, task) == {"tasks/task.yaml", *files}


def test_data_files_of_absolute_paths(folder: Path) -> None:
    files = str(folder / "data" / "a.jsonl")
    task = write(folder, "task.yaml", {"dataset_path": "json", "dataset_kwargs": {"data_files": files}})
    assert read_by(folder, task) == {"tasks/task.yaml", "data/a.jsonl"}


def test_its_folder_of_data(folder: Path) -> None:
    by_path = write(folder, "path.yaml", {"dataset_path": str(folder / "data")})
    assert read_by(folder, by_path) == {"tasks/path.yaml", "data"}
    options = {"data_dir": "data/more", "data_files": "c.jsonl"}
    by_option = write(folder, "option.yaml", {"dataset_path": "json", "dataset_kwargs": options})
    assert read_by(folder, by_option) == {"tasks/option.yaml", "data/more", "data/more/c.jsonl"}
    inside = write(folder, "inside.yaml", {"dataset_path": "data", "dataset_kwargs": {"data_files": "a.jsonl"}})
    assert read_by(folder, inside) == {"tasks/inside.yaml", "data", "data/a.jsonl"}


@pytest.mark.parametrize(
    "text",
    [
        "task: [",
        "- a list",
        "",
        "task: !!timestamp x",
        "task: \x00",
        "[" * 5000,
        'include: "a\\0b.yaml"',
        f"include: {'x' * 5000}.yaml",
        'dataset_kwargs: {data_files: "a\\0/*"}',
        "include: &a [*a]",
        "a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)),
        "dataset_kwargs: none\ndataset_path: [data]",
        "!!python/object/apply:os.getcwd []",
    ],
    ids=range(13),
)
def test_of_a_file_that_is_broken_or_lies_it_is_the_file_alone(folder: Path, text: str) -> None:
    assert read_by(folder, write(folder, "task.yaml", text)) == {"tasks/task.yaml"}
