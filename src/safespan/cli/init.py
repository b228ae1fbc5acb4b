"""The command that writes a study file, from options or from answers to its questions."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from safespan.cli.app import app, naming_prompt_field, pairs, panel
from safespan.errors import ConfigError, SafespanError
from safespan.settings.data import FILES
from safespan.settings.evaluation import UTILITY_PRESETS
from safespan.settings.model_names import FORMS, check_model_name
from safespan.settings.names import ROLES, check_choices, unknown
from safespan.settings.presets import PRESETS

Answer = TypeVar("Answer")

_TUNED = tuple(role for role in ROLES if role not in ("base", "aligned"))
_FILE = f"{FILES}, or a preset ({', '.join(PRESETS)})"
_PROMPTS = ("useful", "harmful", "harmful-for-claims", "benign")
_LIKE = 0.8
"""Likeness to a preset from which another name of a task is taken for a misspelling; `gsm8k_cot` has 0.71."""
_BUDGETS = ("quick", "full")
_QUESTIONS = {
    "base": f"the model before alignment: {FORMS}",
    "aligned": "aligned model",
    "finetuned": f"fine-tunes of it, MODEL or ROLE=MODEL ({', '.join(_TUNED)}), separated by blanks",
    "useful": f"useful prompts: {_FILE}; then, if the column is not `prompt`, a blank and its name",
    "harmful": "harmful prompts, with the forbidden answers in `target`",
    "utility": "task for utility: an lm-eval task, the preset gsm8k, or a task's YAML file",
}
"""What a study needs, and how it is asked for."""


@app.command(rich_help_panel=panel("init"))
def init(
    file: Annotated[Path, typer.Argument(help="study file to write")] = Path("study.yaml"),
    base: Annotated[
        str | None, typer.Option(help=f"the model before alignment: {FORMS}. Other models are named in the same ways")
    ] = None,
    aligned: Annotated[str | None, typer.Option(help="the aligned model")] = None,
    finetuned: Annotated[
        list[str] | None, typer.Option(help=f"fine-tune of it: MODEL, or ROLE=MODEL ({', '.join(_TUNED)}); repeatable")
    ] = None,
    useful: Annotated[str | None, typer.Option(help=f"useful prompts: {_FILE}")] = None,
    harmful: Annotated[str | None, typer.Option(help="harmful prompts to ask, with the forbidden answers")] = None,
    harmful_for_claims: Annotated[
        str | None, typer.Option(help="other harmful prompts, which claims are made from", show_default="--harmful")
    ] = None,
    benign: Annotated[str | None, typer.Option(help="benign prompts that look harmful, for over-refusal")] = None,
    prompt_field: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=FIELD, the column of these prompts ({', '.join(_PROMPTS)}); repeatable"),
    ] = None,
    target_field: Annotated[
        str | None, typer.Option(help="the column of the forbidden answers", show_default="target")
    ] = None,
    utility: Annotated[str | None, typer.Option(help="lm-eval task, the preset gsm8k, or a task's YAML file")] = None,
    training: Annotated[
        list[str] | None, typer.Option(help="useful=FILE and harmful=FILE, rows to learn, for the training test")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="quick: the claims alignment, safelora, lox and refusal-direction, with 100 prompts and questions of "
            "each kind.\n\nfull: every claim that is tested without being named and that the models allow, with all "
            "prompts and questions",
            show_default="quick",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Write a study file with a comment at each part. On a terminal it asks for what is not given.

    The study has the update and the ablation test, and the training test if rows for it are given. --budget says which
    claims the first two test. The training test is of the claim alignment alone: each claim has its own training.
    The claims are named in the file, and can be changed there (`safespan hypotheses` lists all).
    """
    _check_place(file, force)
    given = {"base": base, "aligned": aligned, "finetuned": shlex.join(finetuned or []) or None}
    given |= {"useful": useful, "harmful": harmful, "utility": utility}
    missing = [name for name, value in given.items() if value is None]
    if missing and not sys.stdin.isatty():
        raise ConfigError(f"give {', '.join(f'--{name}' for name in missing)}, or run it on a terminal, where it asks")
    columns = pairs(prompt_field or [], "--prompt-field")
    check_choices("prompts of --prompt-field", columns, _PROMPTS)
    read: dict[str, Any] = {
        name: _read(name, value, columns.get(name)) if value is not None else _asked(_QUESTIONS[name], _reader(name))
        for name, value in given.items()
    }
    others = {"harmful-for-claims": harmful_for_claims, "benign": benign}
    more = {name: _source(text, columns.get(name)) if text else None for name, text in others.items()}
    if target_field:
        read["harmful"]["target_field"] = target_field
    rows = _training(training) if training or not missing else _ask_training()
    if budget is None and missing:
        budget = _asked(f"budget: {' or '.join(_BUDGETS)}", _budget, "quick")
    _write(file, read, more, rows, _budget(budget or "quick"))


def _write(file: Path, read: dict[str, Any], more: dict[str, Any], rows: Any, budget: Any) -> None:
    """Write the study of the answers, and say what is to be known of it."""
    from safespan.files.atomic import write_text
    from safespan.study.draft import BUDGETS, Draft, check_draft, draft_text

    draft = Draft(**read, claims=more["harmful-for-claims"], benign=more["benign"], training=rows, budget=budget)
    with naming_prompt_field():
        check_draft(draft)
    write_text(file, draft_text(draft))
    typer.echo(f"budget {budget}: {BUDGETS[draft.budget]}")
    if draft.claims is None:
        typer.echo("claims are made from the same prompts that models are asked: give others with --harmful-for-claims")
    typer.echo(f"study: {file}; next: safespan run {shlex.quote(str(file))} --dry-run")


def _check_place(file: Path, force: bool) -> None:
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: give the name of a file")
    if file.exists() and not force:
        raise ConfigError(f"{file} exists: give another name, or --force to write over it")


def _read(name: str, text: str, column: str | None = None) -> Any:
    """The value that a text stands for.

    Raises:
        SafespanError: it stands for none.
    """
    if name == "finetuned":
        return _finetunes(shlex.split(text))
    if name in _PROMPTS:
        return _source(text, column)
    if name == "utility":
        if text.endswith((".yaml", ".yml")) and not os.path.isfile(text):
            raise ConfigError(f"{text}: no such file; give a task's YAML file, or the name of an lm-eval task")
        if near := get_close_matches(text, UTILITY_PRESETS, 1, _LIKE):
            check_choices("utility", [text], near)
        return text
    return check_model_name(text)


def _finetunes(words: Sequence[str]) -> dict[str, str]:
    """Role -> model; a model without a role is a fine-tune of any kind."""
    found: dict[str, str] = {}
    for word in words:
        role, equals, model = word.partition("=")
        if equals and role.isidentifier() and not os.path.exists(word):
            check_choices("role of --finetuned", [role], _TUNED)
        if not equals or role not in _TUNED:
            role, model = "finetuned", word
        if role in found:
            raise ConfigError(f"--finetuned {word}: there is already {found[role]} as {role}; give ROLE=MODEL")
        found[role] = check_model_name(model)
    return found


def _source(text: str, column: str | None) -> dict[str, Any]:
    """The fields of a source of rows."""
    if text not in PRESETS and not os.path.exists(text):
        is_path = os.sep in text or "." in text
        no_preset = f"no preset ({', '.join(PRESETS)})" if is_path else unknown("preset", text, tuple(PRESETS))
        raise ConfigError(f"{text}: no such file, and {no_preset}")
    return {"preset" if text in PRESETS else "file": text} | ({"prompt_field": column} if column else {})


def _training(options: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]] | None:
    if not options:
        return None
    files = pairs(options, "--training")
    if set(files) != {"useful", "harmful"}:
        raise ConfigError(f"--training: expected useful=FILE and harmful=FILE, given {', '.join(files)}")
    return _source(files["useful"], None), _source(files["harmful"], None)


def _budget(text: str) -> Any:
    check_choices("budget", [text], _BUDGETS)
    return text


def _reader(name: str) -> Callable[[str], Any]:
    """Reads a typed answer; prompts may have their column behind them."""

    def read(text: str) -> Any:
        words = shlex.split(text)
        if name not in _PROMPTS or len(words) != 2:
            return _read(name, text)
        return _read(name, *words)

    return read


def _ask_training() -> tuple[dict[str, Any], dict[str, Any]] | None:
    useful = _asked("useful rows for the training test (empty: no training test)", _row_file, "")
    return (useful, _asked("harmful rows for the training test", _row_file)) if useful else None


def _row_file(text: str) -> dict[str, Any]:
    return _source(text, None) if text else {}


def _asked(question: str, read: Callable[[str], Answer], default: str | None = None) -> Answer:
    """Ask until the answer can be read."""
    while True:
        try:
            return read(typer.prompt(question, default=default, show_default=bool(default)))
        except (SafespanError, ValueError) as error:  # ValueError: a quotation without its end
            typer.echo(f"  {error}", err=True)
