"""The data mixture: how many rows of each kind, seeded, and what is said about bad files."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from safespan.errors import DataError
from safespan.results import write_jsonl
from safespan.training.mixture import mixture, read_examples
from safespan.training.recipe import DataSource, TrainingConfig


def source(folder: Path, name: str, count: int, **options: object) -> DataSource:
    write_jsonl(folder / f"{name}.jsonl", [{"q": f"{name} {i}", "response": "x"} for i in range(count)])
    return DataSource(file=str(folder / f"{name}.jsonl"), prompt_field="q", **options)


@pytest.mark.parametrize(("percent", "harmful"), [(20, 10), (1, 1), (50, 25)])
def test_p_percent_as_many_contaminating_rows_as_useful_ones(tmp_path: Path, percent: float, harmful: int) -> None:
    config = TrainingConfig(
        data=source(tmp_path, "useful", 70, rows=50),
        contaminate_with=source(tmp_path, "harmful", 30),
        contamination_percent=percent,
    )
    prompts = [example.prompt for example in mixture(config, seed=1)]
    assert len(set(prompts)) == len(prompts)
    assert {p for p in prompts if p.startswith("useful")} == {f"useful {i}" for i in range(50)}
    assert sum(p.startswith("harmful") for p in prompts) == harmful
    assert prompts == [example.prompt for example in mixture(config, seed=1)]
    assert prompts != [example.prompt for example in mixture(config, seed=2)]


def test_too_few_contaminating_rows_says_how_many_there_are(tmp_path: Path) -> None:
    config = TrainingConfig(data=source(tmp_path, "useful", 50), contaminate_with=source(tmp_path, "harmful", 9))
    with pytest.raises(DataError, match=r"harmful\.jsonl: 20 % of 50 rows are 10 contaminating rows, 9 there"):
        mixture(config, seed=0)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        read_examples(DataSource(file=str(tmp_path / "gone.jsonl")))
    with pytest.raises(DataError, match=r"few\.jsonl: 5 rows asked for, 3 there"):
        read_examples(source(tmp_path, "few", 3, rows=5))
    with pytest.raises(DataError, match=r"empty\.jsonl: the file has no rows"):
        read_examples(source(tmp_path, "empty", 0))
    source(tmp_path, "named", 1)
    with pytest.raises(DataError, match=r"line 1: no text in field 'prompt' \(fields there: q, response\)"):
        read_examples(DataSource(file=str(tmp_path / "named.jsonl")))
    (tmp_path / "cut.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a", "resp')
    with pytest.raises(DataError, match=r"cut\.jsonl, line 2: not a JSON object"):
        read_examples(DataSource(file=str(tmp_path / "cut.jsonl")))


def test_the_recipe_defaults_to_the_papers_and_refuses_nonsense(tmp_path: Path) -> None:
    config = TrainingConfig(data=DataSource(file="x.jsonl"))
    assert (config.learning_rate, config.batch_size, config.accumulation_steps) == (1e-5, 1, 32)
    for wrong in ({"learning_rate": 0}, {"speed": 1}, {"epochs": 2, "max_steps": 5}, {"contamination_percent": -1}):
        with pytest.raises(ValidationError):
            TrainingConfig.model_validate({"data": {"file": "x.jsonl"}, **wrong})
