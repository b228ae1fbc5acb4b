import json

import pytest
import yaml

from safespan.cli import main
from safespan.evaluation import Evaluator
from safespan.results.run_folder import RunFolder
from safespan.settings.study import load_study
from safespan.study.run import run_study

ROWS = [
    {"kind": "utility", "prompt": "1 + 1", "response": "2", "score": 1, "judge": "lm-eval"},
    {"kind": "harmful", "prompt": "grindle a kettle", "response": "I cannot help.", "score": 5, "judge": "old"},
    {"kind": "harmful", "prompt": "grindle a lamp", "response": "Turn it, “slowly”."},
    {"prompt": "grindle a clock", "response": "", "id": 7},
]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    (tmp_path / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def command(*words, rows="responses.jsonl"):
        words = ["safespan", "judge", tmp_path / rows, "--out", tmp_path / "scored.jsonl", *words]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return command


def scored(tmp_path):
    return [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]


def test_rules_score_harmful_rows_and_leave_the_others(run, tmp_path):
    code, printed = run()
    assert code == 0
    rows = scored(tmp_path)
    assert rows[0] == ROWS[0]
    assert [(row["score"], row["refused"], row["judge"]) for row in rows[1:]] == [
        (1, True, "rules"), (5, False, "rules"), (2, None, "rules")
    ]  # fmt: skip
    assert rows[3]["id"] == 7
    assert "attack_success_rate   0.3333" in printed.out
    assert "n_harmful             3" in printed.out
    assert "n_no_answer           1" in printed.out


def test_a_row_at_fault_is_named_by_its_number_in_the_file(run, tmp_path):
    for change, says in (
        ({"target": 5}, "row 3 has 5 in the field 'target', expected text"),
        ({"prompt": 1}, "row 3 has"),
    ):
        rows = [*ROWS[:2], {**ROWS[2], **change}]
        (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        code, printed = run("--quiet", rows="bad.jsonl")
        assert (code, printed.err.count("\n")) == (2, 1)
        assert says in printed.err


@pytest.mark.parametrize(
    ("kinds", "code", "says"),
    [
        (["harmful", "harmfull"], 2, "row 2 is of the kind 'harmfull', expected one of harmful, benign"),
        (["benign", "utility"], 2, "none of its 2 rows is of the kind harmful"),
        ([None, ""], 0, ""),
    ],
)
def test_rows_of_unknown_kinds_are_refused_and_rows_without_one_judged(kinds, code, says, run, tmp_path):
    rows = [{"kind": kind, "prompt": "grindle", "response": "I cannot help."} for kind in kinds]
    (tmp_path / "kinds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended, printed = run(rows="kinds.jsonl")
    assert ended == code
    assert says in printed.err
    assert code or "n_harmful             2" in printed.out


def test_a_judge_from_a_file_and_a_setting(run, tmp_path, server):
    path = tmp_path / "judge.yaml"
    path.write_text(yaml.safe_dump({"kind": "llm", "model": "m", "base_url": server.url}))
    code, _ = run("--judge", path, "--set", "concurrency=1")
    assert code == 0
    assert [(row["score"], row["reason"] == "no answer") for row in scored(tmp_path)[1:]] == [
        (4, False), (4, False), (2, True)
    ]  # fmt: skip
    assert {(row["judge"], row["error"]) for row in scored(tmp_path)[1:]} == {("llm m", None)}
    assert run("--judge", path)[0] == 0
    assert len(server.requests) == 2  # what has no answer is not shown to a judge that is paid for


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--judge", "oracle"],
            "--judge oracle: expected one of 'rules', 'llm', 'classifier' as 'kind'",
        ),
        (["--judge", "llm"], "--judge llm: llm.model: it is missing: give it"),
        (["--judge", "llm", "--set", "model=m", "--set", "colour=red"], "llm: unknown field 'colour'"),
        (["--judge", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["--judge", "llm", "--set", "model=openai/gpt-4o-mini"], "No OPENAI_API_KEY, "),
        (["--judge", "llm", "--set", "model=m", "--set", "base_url=http://127.0.0.1:9/v1"], "(Connection refused)"),
    ],
)
def test_wrong_judges_get_one_line(run, words, says, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, printed = run(*words, "--quiet")
    assert code == 2
    assert says in printed.err
    assert "[bold]" not in printed.err
    assert printed.err.count("\n") == 1


def test_rows_without_a_response_get_one_line(run, tmp_path):
    (tmp_path / "bad.csv").write_text("prompt,answer\na,b\n")
    code, printed = run(rows="bad.csv")
    assert code == 2
    assert "row 1 has no text in the field 'response' (fields there: prompt, answer)" in printed.err


@pytest.mark.long
def test_what_a_judge_failed_to_judge_is_asked_again_and_nothing_else(
    server, judged_study, tmp_path, monkeypatch, caplog
) -> None:
    judge = {"kind": "llm", "model": "m", "base_url": server.url, "retries": 0, "concurrency": 1}
    study = load_study(judged_study(tmp_path, judge))
    run_study(study, tmp_path / "whole")
    whole, asked = RunFolder(tmp_path / "whole"), len(server.requests)
    reply = server.plan[-1]
    server.plan = [(400, {}, "not now"), reply, (400, {}, "not now"), reply]
    run_study(study, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert sum(run.read_table("models")["n_judge_failed"]) == 2
    assert len(server.requests) == 2 * asked

    monkeypatch.setattr(Evaluator, "ask", None)  # no model has to answer again
    server.plan = [(400, {}, "still not")]
    before = run.table("models").read_bytes()
    run_study(study, tmp_path / "run")
    assert "2 of 2 requests failed" in caplog.text
    assert run.table("models").read_bytes() == before
    server.plan = [reply]
    server.requests.clear()
    run_study(study, tmp_path / "run")
    assert len(server.requests) == 2
    for name in ("models", "projection"):
        assert run.table(name).read_bytes() == whole.table(name).read_bytes()
    for path in whole.root.glob("generations/**/*.jsonl"):
        assert (run.root / path.relative_to(whole.root)).read_bytes() == path.read_bytes()
    run_study(study, tmp_path / "run")
    assert len(server.requests) == 2
