"""What docs/'s own scripts make of the code, and that the pages stand as they make them."""

import importlib.util
import sys
from html import unescape

import pytest
import typer
from pydantic import BaseModel, Field
from snippets import PAGES, ROOT

import safespan
from safespan import cli
from safespan.results import POOLED_TABLES, TABLES, columns_of
from safespan.settings.study import StudyConfig, load_study


def script(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / "pages" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return script("reference")


@pytest.fixture(scope="module")
def estimates():
    return script("estimates")


def test_the_reference_has_every_command_and_option(reference):
    page = unescape(reference.commands())
    for name, command in typer.main.get_command(cli.app).commands.items():
        section = page.partition(f"## `safespan {name}`\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            assert parameter.opts[0] in section.lower()


def test_the_reference_has_every_field_of_every_file(reference):
    page = reference.fields()
    kinds = reference.configurations(StudyConfig)
    assert {"TrainingConfig", "EvaluationConfig", "LLMConfig", "VerdictConfig"} <= {kind.__name__ for kind in kinds}
    for kind in kinds:
        rows = page.partition(f"## {kind.__name__}\n")[2].partition("\n## ")[0].splitlines()
        for name, field in kind.model_fields.items():
            [row] = [row for row in rows if row.startswith(f"| `{name}` |")]
            assert (field.description or "").replace("|", "\\|") in row


def test_types_and_defaults_are_worded_as_a_study_writes_them(reference):
    class Inner(BaseModel):
        rank: int = Field(3, ge=1, lt=9)

    class Outer(BaseModel):
        inner: Inner = Inner(rank=4)
        names: tuple[str, ...] = ("a", "b")
        size: float | None = None
        on: bool = False
        needed: str

    assert reference.limits(Inner.model_fields["rank"]) == ", ≥ 1, < 9"
    words = {n: (reference.spelled(f.annotation), reference.default(f)) for n, f in Outer.model_fields.items()}
    assert words == {
        "inner": ("[Inner](#inner)", "`{'rank': 4}`"),
        "names": ("list of text", "`[a, b]`"),
        "size": ("number or null", "null"),
        "on": ("true or false", "`false`"),
        "needed": ("text", "*required*"),
    }


def test_the_reference_has_every_column_and_name(reference):
    page = reference.tables()
    for name, row in (TABLES | POOLED_TABLES).items():
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == list(columns_of(row))
    assert all(f" safespan.{name}\n" in reference.names() for name in safespan.__all__)


def test_every_page_asks_for_what_there_is(reference):
    asked = [mark for page in PAGES for mark in reference._MARK.findall(page.read_text())]
    assert sorted(asked) == sorted(reference.PAGES)


def test_the_estimates_are_those_of_the_command(estimates):
    assert estimates.page(estimates.Assumed()) in estimates.PAGE.read_text()


def test_the_estimates_know_the_models_sizes(estimates):
    for name, shape in estimates.SHAPES.items():
        study = load_study(ROOT / "studies" / f"{name}.yaml")
        assert 2 * shape.weights / 1e9 == pytest.approx(study.models["aligned"].size_gb, rel=0.02), name


def test_the_estimates_know_the_recipes(estimates):
    from safespan.settings.training import RECIPES, TrainingConfig

    for role, rows in estimates.TRAINED_ROWS.items():
        recipe = TrainingConfig.model_validate({"recipe": role})
        share = recipe.contamination_percent / 100 if "contaminate_with" in RECIPES[role] else 0
        assert recipe.data.rows * (1 + share) == rows
