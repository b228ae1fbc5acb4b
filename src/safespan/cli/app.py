"""The Typer application, and the options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.errors import ConfigError

app = typer.Typer(
    help="Does a safety subspace exist in this language model? Projection and overlap experiments, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Settings = Annotated[
    list[str] | None, typer.Option("--set", help="change a field: FIELD=VALUE, such as seed=1; repeatable")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="neither use nor keep decompositions on disk")]
Engine = Annotated[str | None, typer.Option(help="where work runs: local, or ray, a Ray cluster", show_default="local")]
Address = Annotated[str | None, typer.Option(help="of the Ray cluster", show_default="one is started on this machine")]
RunOut = Annotated[Path | None, typer.Option(help="run folder", show_default="runs/ and the study's file name")]


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
