"""Recipes and the data mixture: how many rows of each kind, seeded, and what is said about bad data."""

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from safespan.errors import DataError
from safespan.files.atomic import write_jsonl
from safespan.settings.data import TrainingData
from safespan.settings.training import RECIPES, TrainingConfig
from safespan.training.mixture import mixture, read_examples


def source(folder: Path, name: str, count: int, **options: object) -> TrainingData:
    write_jsonl(folder / f"{name}.jsonl", [{"q": f"{name} {i}", "response": "x"} for i in range(count)])
    return TrainingData(file=str(folder / f"{name}.jsonl"), prompt_field="q", **options)


@pytest.mark.parametrize(("percent", "harmful"), [(20, 10), (1, 1), (50, 25)])
def test_p_percent_as_many_contaminating_rows_as_useful_ones(tmp_path: Path, percent: float, harmful: int) -> None:
    config = TrainingConfig(
        data=source(tmp_path, "useful", 70, rows=50),
        contaminate_with=source(tmp_path, "harmful", 30),
        contamination_percent=percent,
    )
    mixed = mixture(config, seed=1)
    prompts = [example.prompt for example in mixed.examples]
    assert len(set(prompts)) == len(prompts)
    assert {p for p in prompts if p.startswith("useful")} == {f"useful {i}" for i in range(50)}
    assert sum(p.startswith("harmful") for p in prompts) == harmful
    assert [(Path(part.source).name, part.rows) for part in mixed.parts] == [
        ("useful.jsonl", 50),
        ("harmful.jsonl", harmful),
    ]
    lines = "".join(json.dumps({"prompt": p, "response": "x"}, sort_keys=True) + "\n" for p in prompts)
    assert mixed.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert mixed == mixture(config, seed=1)
    assert mixed.sha256 != mixture(config, seed=2).sha256
    assert mixed.parts[0] == mixture(config, seed=2).parts[0]


def test_too_few_contaminating_rows_says_how_many_there_are(tmp_path: Path) -> None:
    config = TrainingConfig(data=source(tmp_path, "useful", 50), contaminate_with=source(tmp_path, "harmful", 9))
    with pytest.raises(DataError, match=r"harmful\.jsonl: 20 % of 50 rows are 10 contaminating rows, 9 there"):
        mixture(config, seed=0)


def test_a_missing_field_names_those_there_and_a_response_may_be_empty(tmp_path: Path) -> None:
    asked = source(tmp_path, "named", 1)
    with pytest.raises(DataError, match=r"row 1 has no text in the field 'answer' \(fields there: q, response\)"):
        read_examples(asked.model_copy(update={"response_field": "answer"}))
    write_jsonl(tmp_path / "named.jsonl", [{"q": "a", "response": ""}])
    assert read_examples(asked)[0].response == ""


def test_the_defaults_are_the_papers_and_nonsense_is_refused() -> None:
    config = TrainingConfig.model_validate({"recipe": "contaminated"})
    assert (config.learning_rate, config.batch_size, config.accumulation_steps, config.epochs) == (1e-5, 1, 32, 1)
    assert (config.warmup_ratio, config.weight_decay, config.max_length, config.compute) == (0.02, 0, 512, "bf16")
    assert (config.data.dataset, config.data.rows, config.contamination_percent) == ("meta-math/MetaMathQA", 20_000, 20)
    assert config.contaminate_with is not None
    assert config.contaminate_with.where == {"is_safe": False}
    for wrong in ({"learning_rate": 0}, {"speed": 1}, {"contamination_percent": -1}, {"recipe": "other"}):
        with pytest.raises(ValidationError):
            TrainingConfig.model_validate({"data": {"file": "x.jsonl"}, **wrong})


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_a_default_that_every_field_overrides(recipe: str) -> None:
    fewer = TrainingConfig.model_validate({"recipe": recipe, "data": {"rows": 100}, "max_steps": 10})
    assert fewer.data == TrainingConfig.model_validate({"recipe": recipe}).data.model_copy(update={"rows": 100})
    own = TrainingConfig.model_validate({"recipe": recipe, "data": {"file": "mine.jsonl"}, "contaminate_with": None})
    assert (own.data, own.contaminate_with) == (TrainingData(file="mine.jsonl"), None)


def test_a_config_with_epochs_and_max_steps_is_dumped_and_read_again() -> None:
    for given in ({"recipe": "contaminated"}, {"recipe": "useful", "epochs": 2, "max_steps": 5}):
        config = TrainingConfig.model_validate(given)
        assert TrainingConfig.model_validate_json(config.model_dump_json()) == config
        assert TrainingConfig.model_validate_json(config.model_dump_json(exclude_unset=True)) == config
