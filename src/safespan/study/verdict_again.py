"""The verdicts of a finished run under other settings, without asking any model."""

import time
from collections.abc import Sequence
from pathlib import Path

from safespan.errors import ConfigError, DataError
from safespan.files.content import content_hash
from safespan.files.locks import exclusive_lock
from safespan.progress import step
from safespan.report import write_report
from safespan.results import Manifest, RunFolder
from safespan.results.manifest import StageRecord
from safespan.settings import StudyConfig, check_settings
from safespan.settings.verdict import chosen_tests
from safespan.study.claim_keys import key_in_records
from safespan.study.context import Study
from safespan.study.judgement import judge_claims
from safespan.study.machine import versions

FIELDS = ("margin", "confidence", "resamples")
"""Fields of `verdict` that a finished run can be judged with: no other prompts or controls than it has are needed."""


def judge_run_again(root: Path, settings: Sequence[str] = ()) -> Path:
    """Judge a finished run again, and write its report. The manifest has the new settings.

    Its records alone are read: the folder may have been moved or copied to another machine, without its models.

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
    _check_version(before, root)
    study = Study(config, root)
    assert config.verdict is not None
    for table in ("coverage", *chosen_tests(config.verdict, config.models)):
        if not run.has(run.table(table)):
            raise DataError(f"{run.table(table)}: the table is gone: run the study again")
    with exclusive_lock(root):
        start = time.perf_counter()
        with step("verdict"):
            judge_claims(study, key_in_records)
        done = StageRecord(name="verdict", seconds=round(time.perf_counter() - start, 2), reused=False)
        others = [stage for stage in before.stages if stage.name != done.name]
        judged = {name: content_hash(run.table(name)) for name in ("verdicts", "estimates")}
        changed = {
            "config": config.model_dump(mode="json"),
            "stages": [*others, done],
            "tables": {**before.tables, **judged},
        }
        before.model_copy(update=changed).write(run.manifest)
        with step("report"):
            return write_report(run)


def _check_version(before: Manifest, root: Path) -> None:
    """Records of another version may hold other outcomes."""
    present = versions()
    for name in ("safespan", "safespan records"):
        if before.versions.get(name) != present[name]:
            raise DataError(
                f"{root} was made by another version ({name} {before.versions.get(name, 'unknown')}, here "
                f"{present[name]}): run the study again"
            )
