"""The verdicts of a finished run under other settings, without asking any model."""

from collections.abc import Sequence
from pathlib import Path

from safespan.errors import ConfigError, DataError
from safespan.files.locks import exclusive_lock
from safespan.progress import step
from safespan.report import write_report
from safespan.results import RunFolder
from safespan.settings import StudyConfig, check_settings
from safespan.settings.verdict import chosen_tests
from safespan.study.context import Study
from safespan.study.stage_log import StageLog
from safespan.study.stages import stages

FIELDS = ("margin", "confidence", "resamples")
"""Fields of `verdict` that a finished run can be judged with: no other prompts or controls than it has are needed."""


def judge_run_again(root: Path, settings: Sequence[str] = ()) -> Path:
    """Judge a finished run again, and write its report. The manifest has the new settings.

    A claim that was decided early was asked less. Where other settings would have asked it more, it is judged by what
    there is.

    Args:
        root: the run folder.
        settings: such as `margin=0.1`: of `FIELDS`.

    Returns:
        The path of the report.

    Raises:
        ConfigError: another setting is given, or a wrong value.
        DataError: no run with verdicts stands there, or its records are not of this version.
    """
    for setting in settings:
        if (field := setting.partition("=")[0]) not in FIELDS:
            raise ConfigError(
                f"--set {field}: a finished run can be judged with another {', '.join(FIELDS)}; anything else needs "
                "other prompts or controls: run the study again"
            )
    run = RunFolder(root)
    before = run.read_manifest()
    if not before.config.get("verdict"):
        raise DataError(
            f"{root} is no finished run with a verdict: expected its manifest.json to have the field verdict"
        )
    config = check_settings(before.config, StudyConfig, [f"verdict.{setting}" for setting in settings], "--set")
    study = Study(config, root)
    assert config.verdict is not None
    for table in ("coverage", *chosen_tests(config.verdict, config.models)):
        if not run.has(run.table(table)):
            raise DataError(f"{run.table(table)}: the table is gone: run the study again")
    with exclusive_lock(root):
        every = stages(study)
        log = StageLog(run, [stage.name for stage in every])
        log.do(every[-1])
        [done] = log.records
        others = [stage for stage in before.stages if stage.name != done.name]
        changed = {"config": config.model_dump(mode="json"), "stages": [*others, done], "tables": log.tables()}
        before.model_copy(update=changed).write(run.manifest)
        with step("report"):
            return write_report(run)
