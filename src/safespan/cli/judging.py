"""The command that judges existing responses."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import Settings, app
from safespan.cli.output import CommandOutput, Json, Quiet, emit, outcome_lines, progress


@app.command()
def judge(
    generations: Annotated[Path, typer.Argument(help="rows with prompt and response: .jsonl, .json, .csv or .parquet")],
    out: Annotated[Path, typer.Option(help="the scored rows, as .jsonl")],
    by: Annotated[str, typer.Option("--judge", help="rules, or a YAML file with a judge's kind and fields")] = "rules",
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score responses that exist, without generating again; a judge that is paid for is asked once for each."""
    from safespan.data.row_files import read_file
    from safespan.evaluation import rejudge
    from safespan.evaluation.judges import make_judge
    from safespan.files.atomic import write_jsonl
    from safespan.progress import step
    from safespan.settings.judges import JudgeFile
    from safespan.settings.reading import check_settings, read_fields

    in_file = by.endswith((".yaml", ".yml"))
    where, fields = (by, read_fields(Path(by))) if in_file else (f"--judge {by}", {"kind": by})
    config = check_settings(fields, JudgeFile, settings or [], where)
    with progress(quiet), step("judgement"):
        rows = read_file(generations)
        scored, outcomes = rejudge(rows, make_judge(config.root, out.with_name(f"{out.name}.judge")), str(generations))
    write_jsonl(out, scored)
    emit(CommandOutput({**outcomes, "written": out}, outcome_lines(outcomes), [out]), quiet, as_json)
