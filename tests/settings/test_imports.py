"""What is not imported: a wrong value has to be reported at once."""

import subprocess
import sys

import pytest

from safespan.settings.model_names import FORMS

HEAVY = ("torch", "transformers", "lm_eval", "datasets", "trl", "peft", "accelerate", "polars", "scipy", "sklearn")


def heavy_imports(code):
    """Which heavy libraries a fresh process has imported after it ran some code, however it ends."""
    program = f"import sys, atexit\natexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules]))\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize("module", ["safespan", "safespan.settings", "safespan.cli"])
def test_settings_and_the_command_line_import_no_heavy_library(module):
    assert heavy_imports(f"import {module}") == ("[]", "")


def test_a_sweep_imports_no_library_that_it_does_not_use():
    code = "import safespan.projection.sweep\nassert not {'huggingface_hub', 'joblib'} & sys.modules.keys()"
    assert heavy_imports(code) == ("['torch', 'scipy']", "")  # of SciPy, its first module alone


def imported_by_command(*words):
    code = f"import sys; sys.argv = ['safespan', *{words!r}]\nfrom safespan.cli import main\nmain()"
    return heavy_imports(code)


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"]])
def test_a_typo_in_a_study_is_reported_before_any_heavy_import(words, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text("name: a\nmodels: {base: {modle: x}}\n")
    message = f"safespan: {study}: models.base: unknown field 'modle': did you mean 'model'?\n"
    assert imported_by_command(*words, str(study)) == ("[]", message)


FAMILY = ("--base", "o/base", "--aligned", "o/aligned")


@pytest.mark.parametrize(
    "words",
    [
        ("test", *FAMILY, "--useful", "o/useful", "--hypothesis", "lox"),
        ("evaluate", "--model", "o/model", "--out", "out"),
        ("judge", "rows.jsonl", "--out", "out"),
        ("train", "useful", "--model", "o/model", "--out", "out"),
    ],
)
def test_a_typo_in_a_setting_is_reported_before_any_heavy_import(words):
    imported, said = imported_by_command(*words, "--set", "sede=1")
    assert imported == "[]"
    assert said.startswith(f"safespan: --set: {'rules: ' if words[0] == 'judge' else ''}unknown field 'sede': ")
    assert said.endswith("did you mean 'seed'?\n") == (words[0] == "test")


GONE = "./gone"


@pytest.mark.parametrize(
    "words",
    [
        ("sweep", "--base", GONE, "--aligned", "o/aligned", "--finetuned", "u=o/u", "--out", "out.csv"),
        ("sweep", *FAMILY, "--finetuned", f"u={GONE}", "--out", "out.csv"),
        ("sweep", *FAMILY, "--finetuned", "u=o/u", "--safe", GONE, "--out", "out.csv"),
        ("project", *FAMILY, "--finetuned", GONE, "--out", "out"),
        ("overlap", "--aligned", "o/aligned", "--update", f"u=o/base+{GONE}", "--out", "out.csv"),
        ("activations", "--model", GONE, "--prompts", "useful=u.txt", "--prompts", "harmful=h.txt", "--out", "out.csv"),
        ("evaluate", "--model", GONE, "--out", "out"),
        ("train", "useful", "--model", GONE, "--out", "out"),
        ("test", *FAMILY, "--useful", GONE, "--hypothesis", "lox"),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_any_heavy_import(words):
    message = f"safespan: no checkpoint at {GONE}: expected {FORMS}\n"
    assert imported_by_command(*words) == ("[]", message)
