"""What help texts say, where it can be checked."""

import re

import pytest
import typer

from safespan import cli
from safespan.cli.app import PANELS, panel
from safespan.errors import ConfigError
from safespan.settings import EvaluationConfig
from safespan.settings.reading import load_settings

GROUP = typer.main.get_command(cli.app)


def test_commands_are_listed_by_group_in_the_order_of_the_groups():
    listed = GROUP.list_commands(None)
    assert listed == [name for names in PANELS.values() for name in names]
    assert all(GROUP.commands[name].rich_help_panel == panel(name) for name in listed)


def test_the_example_of_a_configuration_is_one(tmp_path):
    text = next(one.help for one in GROUP.commands["evaluate"].params if one.name == "config")
    example = tmp_path / "evaluation.yaml"
    example.write_text("\n".join(re.findall("^`(.*)`$", text, re.MULTILINE)))
    found = load_settings(example, EvaluationConfig)
    assert (found.utility.task, found.harmfulness.limit) == ("gsm8k", 100)
    assert found.over_refusal is not None
    (tmp_path / "study.yaml").write_text("name: x\nevaluation: {}\n")
    with pytest.raises(ConfigError, match="study.yaml: "):
        load_settings(tmp_path / "study.yaml", EvaluationConfig)
