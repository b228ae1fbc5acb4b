"""What is not imported: a wrong value has to be reported at once."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "lm_eval", "datasets", "trl", "peft", "accelerate", "polars", "scipy", "sklearn")


def heavy_imports(code):
    """Which heavy libraries a fresh process has imported after it ran some code, however it ends."""
    program = f"import sys, atexit\natexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules]))\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize("module", ["safespan", "safespan.settings", "safespan.cli"])
def test_settings_and_the_command_line_import_no_heavy_library(module):
    assert heavy_imports(f"import {module}") == ("[]", "")


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"]])
def test_a_typo_in_a_study_is_reported_before_any_heavy_import(words, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text("name: a\nmodels: {base: {modle: x}}\n")
    code = f"import sys; sys.argv = ['safespan', *{words!r}, {str(study)!r}]\nfrom safespan.cli import main\nmain()"
    imported, message = heavy_imports(code)
    assert message == f"safespan: {study}: models.base.modle: Extra inputs are not permitted\n"
    assert imported == "[]"
