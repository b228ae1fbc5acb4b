"""Run folders from elsewhere, and what a judge says."""

import json
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from fuzz.mutations import SECRET, TEXTS, broken_bytes, broken_json, hostile_value, json_text


def _model_rows(random: Random) -> list[dict[str, Any]]:
    bad = ("../../secret", "../secret", "/etc/passwd", *TEXTS)
    names = ["aligned", "useful", random.choice(bad) if random.random() < 0.4 else "base"]
    numbers = (0.5,) * 60 + (None, float("nan"), float("inf"), -1.0, 1e308)
    return [
        {"model": name, "utility": random.choice(numbers), "n_utility": random.choice((10, 0, None, -5, 2**62)),
         "attack_success_rate": random.choice(numbers), "n_harmful": random.choice((10, 0, None)),
         "valid": random.choice((True,) * 9 + (None,))}
        for name in names
    ]  # fmt: skip


_MANIFEST = {
    "name": "S", "command": "safespan run", "config": {"verdict": {"margin": 0.1}}, "seed": 0, "created": "",
    "versions": {"python": "3"}, "hardware": {"cpu": "x", "cores": 2},
    "stages": [{"name": "data", "seconds": 1.0, "reused": False}], "inputs": {"base": "x"}, "tables": {"models": "x"},
    "prompts": {"harmful": {"rows": 3, "sha256": "x"}},
    "judge": [{"judge": "rules", "replies": 1}], "training": {"useful": {"loss": 1.0}},
}  # fmt: skip
_SAID = {"kind": "harmful", "prompt": "p", "response": "r", "target": None, "score": 5, "refused": False, "judge": "j"}


def make_run_folder(random: Random, folder: Path) -> None:
    from safespan.results import TABLES, schema_of

    for part in ("results", "generations"):
        (folder / part).mkdir()
    rows = [
        {
            key: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for key, value in row.items()
        }
        for row in _model_rows(random)
    ]
    table = pl.DataFrame(rows, schema=schema_of(TABLES["models"])).write_csv().encode()
    name = random.choice(sorted(TABLES))
    columns = list(schema_of(TABLES[name]))
    other = ",".join(columns) + "\n" + ",".join(str(hostile_value(random)) for _ in columns) + "\n"
    if random.random() < 0.2:
        (folder / "results" / f"{name}.csv").write_bytes(other.encode(errors="surrogatepass"))
    if random.random() < 0.8:
        table = broken_bytes(random, table) if random.random() < 0.15 else table
        (folder / "results" / "models.csv").write_bytes(table)
    manifest = broken_json(random, _MANIFEST) if random.random() < 0.25 else _MANIFEST
    if random.random() < 0.7:
        (folder / "manifest.json").write_bytes(json_text(random, manifest))
    said = [json_text(random, broken_json(random, _SAID) if random.random() < 0.08 else _SAID) for _ in range(3)]
    (folder / "generations" / "useful.jsonl").write_bytes(b"\n".join(said))
    if random.random() < 0.1:
        (folder / "generations" / "aligned.jsonl").symlink_to("../../secret.jsonl")
    stages = {"data": {"key": "k", "seconds": 1, "outputs": {"data": None}}}
    stages = broken_json(random, stages) if random.random() < 0.15 else stages
    (folder / "stages.json").write_bytes(json_text(random, stages))


def read_run_folder(folder: Path) -> str:
    from safespan.errors import SafespanError
    from safespan.report.generations import responses
    from safespan.report.page import margin_of, read_results
    from safespan.report.tables import model_rows
    from safespan.results.run_folder import RunFolder
    from safespan.study.stage_log import StageLog
    from safespan.study.stages import Stage

    run = RunFolder(folder)
    stage = Stage("data", True, lambda: "k", (), lambda key: None)
    text, errors = "", []
    for read in (
        lambda: StageLog(run, ["data"]).do(stage),
        lambda: margin_of(run.read_manifest()),
        lambda: model_rows(read_results(run)["models"]),
        lambda: responses(run, read_results(run)["models"]["model"].to_list()),
    ):
        try:
            text += str(read())
        except SafespanError as error:
            errors.append(error)
    assert SECRET not in text
    if errors:
        raise errors[0]
    return text


def read_page(folder: Path) -> str:
    from safespan.report import write_report
    from safespan.results.run_folder import RunFolder

    page = write_report(RunFolder(folder)).read_text(encoding="utf-8")
    assert SECRET not in page
    return page[:100]


_REPLIES = (
    '{"reason": "x", "score": 4}', "Score: 5", "3", '{"score": [1]}', '{"score": {"a": 1}}', '{"score": 1e99}',
    "{" * 50_000,
    '{"score": ' + "9" * 5000 + "}", "score " * 50_000, "5/5", "\x00", "", '{"score": null}', "[1]", '{"a":' * 30_000,
)  # fmt: skip


def make_reply(random: Random, folder: Path) -> None:
    text = random.choice(_REPLIES).encode()
    folder.joinpath("reply").write_bytes(broken_bytes(random, text) if random.random() < 0.5 else text)
    row = {"key": "k", "text": "t", "input_tokens": 1, "output_tokens": 1}
    lines = [json_text(random, broken_json(random, row)) for _ in range(3)]
    folder.joinpath("replies.jsonl").write_bytes(b"\n".join(lines))


def read_reply(folder: Path) -> str:
    from safespan.evaluation.judges import judge_by_rules
    from safespan.evaluation.judges.replies import Replies
    from safespan.evaluation.judges.rubric import question, read_reply

    text = folder.joinpath("reply").read_bytes().decode(errors="replace")
    judge_by_rules("a request", text)
    judged = read_reply(text)
    assert judged.score in (None, 1, 2, 3, 4, 5)
    assert json.loads(question("a", text))["response"] == text
    kept = Replies(folder / "replies.jsonl")
    kept.totals()
    if (reply := kept.get("k")) is not None:
        read_reply(reply.text)
    return str(judged)
