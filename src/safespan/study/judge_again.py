"""Judgements that failed in an earlier run, asked for again."""

import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

from safespan.errors import ConfigError
from safespan.files.atomic import read_jsonl
from safespan.progress import step
from safespan.study.context import Study
from safespan.study.points import PointStore


def ask_judge_again(study: Study, place: str, key: str, table: Path) -> None:
    """Have the responses judged whose judgement failed in an earlier run, as when the judge's server was out.

    Replies of the judge are kept, and not asked for again. Where a judgement was made, the table is removed, so that
    it is written anew from the records.

    Args:
        study: the study.
        place: of the records, as in `PointStore`.
        key: of the records that count.
        table: that they are in.
    """
    if study.resolved.evaluation.harmfulness is None:
        return
    from safespan.evaluation import Scores, judged_outcomes, rejudge

    store = PointStore(study.run, place, key, Scores)
    records = {name: record for name in store.names() if (record := store.read(name))}
    failed = {name: record for name, record in records.items() if record.scored.outcomes.n_judge_failed}
    if not failed:
        return
    before = {name: read_jsonl(store.responses(name)) for name in failed}
    with step(f"judgements of {table.stem} that failed before"):
        try:
            assert study.evaluator.judge is not None
            rows = [row for responses in before.values() for row in responses]
            judged, _ = rejudge(rows, study.evaluator.judge, str(study.run.root))
        except ConfigError as error:
            logging.getLogger(__name__).warning(str(error))
            return
    rest = iter(judged)
    for name, record in failed.items():
        after = list(islice(rest, len(before[name])))
        if after != before[name]:
            table.unlink(missing_ok=True)
            outcomes = replace(record.scored.outcomes, **judged_outcomes(after))
            store.write(name, replace(record, scored=replace(record.scored, outcomes=outcomes)), after)
