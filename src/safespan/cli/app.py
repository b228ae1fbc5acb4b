"""The Typer application, the frame of its long commands, and the options that several of them share."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from safespan.cli.output import CommandOutput, Json, Quiet, emit, progress
from safespan.errors import ConfigError, DataError
from safespan.files.disk import check_writable
from safespan.progress import is_main_process
from safespan.settings import PAPER, ExecutionConfig
from safespan.settings.model_names import FORMS, check_model_name
from safespan.settings.names import ENGINES, check_choices
from safespan.settings.presets import PRESETS
from safespan.settings.reading import read_fields
from safespan.settings.training import RECIPES

Work = Callable[..., CommandOutput]

PANELS = {
    "Check a fine-tune": ("evaluate", "gate", "inspect", "judge"),
    "Test a claim": (
        *("hypotheses", "test", "init", "run", "demo"),
        *("verdict", "rerun", "report", "compare", "export"),
    ),
    "Apply a claim": ("project", "train"),
    "Analyse": ("sweep", "overlap", "activations"),
    "This machine": ("doctor", "calibrate", "schema", "convert"),
}
"""The groups of commands in `safespan --help`, in its order."""

_PANEL_OF = {name: title for title, names in PANELS.items() for name in names}


class _Commands(TyperGroup):
    """The commands, in the order of their groups and not in that of the imports."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=list(_PANEL_OF).index)


def _flowed(text: str | None) -> str:
    """A help text whose lines end where its sentences do, since rich keeps the ends of lines."""
    return re.sub(r"(?<![.:\n])\n(?!\n)", " ", inspect.cleandoc(text or ""))


app = typer.Typer(
    cls=_Commands,
    help=_flowed("""Test claims about where the safety of a language model lies.

    A claim says that safety lies in a part of the weights, such as the leading directions of the alignment update
    (aligned − base), or that an edit of a fine-tune keeps it safe, such as safelora. `safespan hypotheses` lists all.

    safespan tests a claim on finished fine-tunes, on the aligned model and in training, always against random controls.

    Each run writes a report into its folder. The page "What has been found" of the documentation (docs/found.md) has
    the results so far."""),
    epilog="""Examples:

    safespan evaluate --model org/my-finetune --out runs/mine

    safespan test --hypothesis safelora --base org/base --aligned org/chat --finetuned org/my-finetune

    safespan project --hypothesis safelora --base org/base --aligned org/chat --finetuned org/my-finetune --out new""",
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"safespan {version('safespan')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def model_option(text: str) -> Any:
    """An option that names a model. A name that cannot be one is refused while the command line is read."""
    return typer.Option(help=text, callback=lambda name: check_model_name(name) if name else name)


def settings_option(example: str, kind: str) -> Any:
    """The option --set.

    Args:
        example: FIELD=VALUE that fits the command.
        kind: where in the JSON Schema of a study its fields are.
    """
    return typer.Option(
        "--set",
        help=f"change a field: FIELD=VALUE, such as {example}; repeatable. "
        f"`safespan schema` writes a file that lists the fields ({kind})",
    )


def panel(name: str) -> str:
    """The group of a command in `safespan --help`."""
    return _PANEL_OF[name]


def file_option(text: str) -> Any:
    """An option that names a file to write. Before any work, a folder or an unwritable place is refused."""

    def check(path: Path) -> Path:
        if path.is_dir():
            raise ConfigError(f"--out {path} is a folder: give the name of a file")
        check_writable(path)
        return path

    told = "an existing file is replaced, and folders of its path that are missing are made"
    return typer.Option(help=f"{text}; {told}", callback=check)


Model = Annotated[str, model_option(f"the model: {FORMS}")]
Aligned = Annotated[str, model_option(f"the aligned model: {FORMS}. Other models are named in the same ways")]
PromptFields = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt-field",
        help="useful=FIELD or harmful=FIELD, the column of these prompts; repeatable",
        show_default="prompt",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="neither use nor keep decompositions on disk")]
EvaluationFile = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with the fields of an evaluation at its top level, such as\n\n"
        "`utility: gsm8k`\n\n"
        "`harmfulness: {prompts: {file: harmful.jsonl}, limit: 100}`\n\n"
        "`over_refusal: {prompts: {file: benign.jsonl}}`\n\n"
        "A study file is refused: take what is below its `evaluation:`. What is left out is not measured",
        show_default="utility on gsm8k, harmful prompts of advbench, judged by rules",
    ),
]


@contextmanager
def naming_prompt_field() -> Iterator[None]:
    """Names the option --prompt-field in messages about a field of prompts, in a command that has this option."""
    try:
        yield
    except DataError as error:
        told = str(error).replace("by prompt_field", "by prompt_field or --prompt-field")
        raise DataError(told) from error


def command(name: str | None = None) -> Callable[[Work], Work]:
    """Register a long command: its work is done inside the progress display, then its output is printed.

    The command has the options of the function, then --quiet and --json. A parameter `execution` of the function stands
    for the options --engine, --address and --no-cache.

    Args:
        name: of the command; unset: the function's.
    """

    def register(function: Work) -> Work:
        own = dict(inspect.signature(function).parameters)
        shared = inspect.signature(_execution).parameters if own.pop("execution", None) else {}

        def run(quiet: Quiet = False, as_json: Json = False, **options: Any) -> None:
            with progress(quiet), naming_prompt_field() if "prompt_field" in own else nullcontext():
                if shared:
                    options["execution"] = _execution(**{option: options.pop(option) for option in shared})
                output = function(**options)
            if is_main_process():
                emit(output, quiet, as_json)
            if output.code:
                raise typer.Exit(output.code)

        *printing, _ = inspect.signature(run).parameters.values()
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own.values(), *shared.values(), *printing)
        ]
        # Typer reads both.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        known = name or function.__name__
        app.command(known, help=_flowed(function.__doc__), rich_help_panel=panel(known))(run)
        return function

    return register


def _execution(
    engine: Annotated[
        str | None, typer.Option(help="where the work runs: local, or ray (a Ray cluster)", show_default="local")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="address of the Ray cluster", show_default="a cluster is started on this machine")
    ] = None,
    no_cache: NoCache = False,
) -> ExecutionConfig:
    """The settings with the fields set that are given on the command line."""
    check_choices("engine", [engine or "local"], ENGINES)
    fields = {"engine": engine, "address": address, "cache": "false" if no_cache else None}
    return ExecutionConfig.model_validate({field: value for field, value in fields.items() if value})


def pairs(options: list[str], option: str) -> dict[str, str]:
    """Split NAME=PATH pairs; names are unique.

    Raises:
        ConfigError: a pair without a name or a path, or a name given twice.
    """
    named: dict[str, str] = {}
    for pair in options:
        name, equals, folder = pair.partition("=")
        if not name or not equals or not folder:
            raise ConfigError(f"{option} {pair!r}: expected NAME=PATH, such as useful=models/useful")
        if name in named:
            raise ConfigError(f"{option}: the name {name!r} is given twice")
        named[name] = folder
    return named


def model_pairs(options: list[str], option: str) -> dict[str, str]:
    """Split NAME=MODEL pairs; each MODEL is checked as by `check_model_name`."""
    return {name: check_model_name(model) for name, model in pairs(options, option).items()}


def prompt_files(options: list[str], fields: list[str] | None) -> dict[str, Any]:
    """The sources of useful and of harmful prompts.

    Args:
        options: NAME=FILE.
        fields: NAME=FIELD, the field of the prompts of a class.

    Raises:
        ConfigError: other classes than these are given.
    """
    files, named = pairs(options, "--prompts"), pairs(fields or [], "--prompt-field")
    if set(files) != {"useful", "harmful"}:
        raise ConfigError(f"--prompts: expected useful=FILE and harmful=FILE, given {', '.join(files)}")
    if others := named.keys() - files.keys():
        raise ConfigError(f"--prompt-field: expected useful=FIELD or harmful=FIELD, given {', '.join(others)}")
    sources: dict[str, Any] = {}
    for name, file in files.items():
        kind = "preset" if file in PRESETS else "file"
        sources[name] = {kind: file} | ({"prompt_field": named[name]} if name in named else {})
    return sources


def evaluation_fields(file: Path | None) -> dict[str, Any]:
    """The fields of an evaluation: those of a YAML file, or the default.

    Raises:
        ConfigError: the file is a study.
    """
    fields = read_fields(file) if file else PAPER
    if {"evaluation", "models"} & fields.keys():
        raise ConfigError(
            f"--config {file} is a study file: write what stands below its `evaluation:` into a file, and give that"
        )
    return fields


def recipe_fields(recipe: str) -> dict[str, Any]:
    """The fields of a training: those of the recipe of that name (arXiv 2505.14185), or of a YAML file."""
    return {"recipe": recipe} if recipe in RECIPES else read_fields(Path(recipe))
