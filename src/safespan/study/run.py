"""Running a study: every stage once, then its manifest and its report."""

import json
import logging
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from safespan.checkpoints import local_place, open_checkpoint
from safespan.files.disk import explain_disk_full
from safespan.files.locks import exclusive_lock
from safespan.linalg.device import thread_budget, threads
from safespan.progress import note, step
from safespan.report import write_report
from safespan.results import Manifest
from safespan.results.manifest import HypothesisRecord
from safespan.settings import StudyConfig
from safespan.settings.instructions import ONE_PATH, take_one_path
from safespan.settings.names import TESTS
from safespan.study.context import Study
from safespan.study.costs.estimate import expected_of
from safespan.study.inputs import check_data, check_one_model, check_place
from safespan.study.machine import hardware, versions
from safespan.study.needs import check_needs, left_out, tested_hypotheses
from safespan.study.prompts import warn_of_prompts
from safespan.study.roles import notes_of
from safespan.study.stage_log import StageLog
from safespan.study.stages import batches, stages
from safespan.study.texts import check_texts
from safespan.subspaces import find_hypothesis

_log = logging.getLogger(__name__)


def run_study(config: StudyConfig, out: Path, command: str = "safespan run") -> Path:
    """Run a study into a folder and write its report; what stands there from before is not done again.

    It is run once, under its own seed: `study.replicates.run_replicates` runs it under several.

    Progress is shown inside `with safespan.progress.shown():`.

    Args:
        config: the study.
        out: the run folder.
        command: how to run it again, for the manifest and the report.

    Returns:
        The path of the report.

    Raises:
        SafespanError: bad input, in one line.
    """
    check_study(config, out)
    study = Study(config, out)
    if config.data == "organism" and not take_one_path():
        _log.warning(
            "the figures of this run are those of this processor: PyTorch or NumPy was imported before the run could "
            f"choose one instruction path; start Python with {' '.join(f'{n}={v}' for n, v in ONE_PATH.items())}"
        )
    for line in left_out(config):
        note(line)
    _check_judge(study)
    # A cluster that does not answer is reported before hours of training.
    execution, _ = study.execution, study.decompose
    own_threads = threads(config.threads or thread_budget())
    with explain_disk_full(out), exclusive_lock(out), own_threads, closing(execution):
        every = stages(study)
        names, expected = [stage.name for stage in every], expected_of(config, out)
        log = StageLog(study.run, names, expected.clock(names) if expected else None)
        for batch in batches(every):
            if len(batch) > 1 and execution.workers > 1:
                log.do_side_by_side(batch, execution)
            else:
                for stage in batch:
                    log.do(stage)
        manifest = manifest_of(study, log, command)
        manifest.model_copy(update={"estimate": expected.record() if expected else {}}).write(study.run.manifest)
        with step("report"):
            return write_report(study.run)


def check_study(config: StudyConfig, out: Path) -> None:
    """Refuse what can be refused before anything is done; models of the hub are downloaded, once all else is checked.

    Raises:
        SafespanError: bad input, in one line.
    """
    check_place(out)
    check_needs(config)
    study = Study(config, out)
    check_one_model(study.resolved)
    readable = [named for named, rows in check_data(study.resolved, study.run) if rows is not None]
    warn_of_prompts(study.resolved, [named.field for named in readable])
    check_texts(study.resolved, readable)
    _fetch_models(study.resolved)


def _fetch_models(config: StudyConfig) -> None:
    """Download what is not on this disk now: a name that the hub does not have leaves no run folder behind."""
    for source in config.models.values():
        if source.model and not local_place(source.model):
            open_checkpoint(source.model)


def _check_judge(study: Study) -> None:
    """Report a missing key of a judge now, not after hours of training."""
    harmfulness = study.resolved.evaluation.harmfulness
    if harmfulness and harmfulness.judge.kind == "llm" and not study.run.table("projection").exists():
        from safespan.evaluation.judges import make_judge

        make_judge(harmfulness.judge, study.run.root / "judge")


def manifest_of(study: Study, log: StageLog, command: str) -> Manifest:
    """What was run, with what, where, and how long each stage took."""
    root = study.run.root
    return Manifest(
        name=study.config.name,
        command=command,
        config=study.config.model_dump(mode="json"),
        seed=study.config.seed,
        versions=versions(),
        hardware={**hardware(), **workers(study)},
        stages=log.records,
        inputs=study.evaluation_inputs(),
        notes=notes_of(study),
        tables=log.tables(),
        prompts=_read(study.run.prompts),
        judge=[_read(path) for path in sorted(root.glob("judge/*/totals.json"))],
        training={path.parent.name: _read(path) for path in sorted(root.glob("checkpoints/*/training.json"))},
        hypotheses=_hypotheses(study),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _hypotheses(study: Study) -> dict[str, HypothesisRecord]:
    """What the tested hypotheses say, in the order in which they are listed."""
    names = dict.fromkeys(name for test in TESTS for name in tested_hypotheses(study.resolved, test))
    found = (find_hypothesis(name) for name in names)
    return {
        one.name: HypothesisRecord(claim=one.claim, paper=one.paper, authors_tests=list(one.authors_tests))
        for one in found
    }


def workers(study: Study) -> dict[str, int]:
    """How many jobs of a study run at a time, and the threads of each."""
    number, config = study.execution.workers, study.config.execution
    here = number == 1 and config.engine == "local"
    return {"workers": number, "threads_per_worker": torch.get_num_threads() if here else config.cpus_per_worker}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
