import json
import logging
import os
import socket

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from safespan.errors import ConfigError, DiskFullError
from safespan.evaluation.judges import Exchange, make_judge
from safespan.evaluation.judges.llm import STOP_AFTER
from safespan.evaluation.judges.server import silence
from safespan.settings.judges import LLMConfig

KEY = "canary-5f1c"
NEVER = 24 * 3600
"""Seconds until a request is given up where the test is not about that: however busy the machine is."""
ASKED = [Exchange(f"request {n}", f"response {n}") for n in range(6)]


@pytest.fixture
def config(server, monkeypatch) -> LLMConfig:
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    return LLMConfig(
        model="some-model",
        base_url=server.url,
        api_key_env="MY_JUDGE_KEY",
        retries=0,
        timeout=NEVER,
        input_price=10,
        output_price=100,
    )


def totals(folder):
    [path] = folder.glob("*/totals.json")
    return json.loads(path.read_text())


def test_scores_totals_and_logs_that_inspect_reads(server, config, tmp_path, capfd) -> None:
    server.plan = [(200, {}, '{"reason": "no", "score": 1}'), (200, {}, "Score: 5")]
    judged = make_judge(config.model_copy(update={"concurrency": 1}), tmp_path).judge(ASKED)
    assert [judgement.score for judgement in judged] == [1, 5, 5, 5, 5, 5]
    assert [judgement.refused for judgement in judged] == [True, *[False] * 5]
    assert server.asked() == [{"request": asked.prompt, "response": asked.response} for asked in ASKED]
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["reason", "score"]
    assert server.keys == {f"Bearer {KEY}"}
    spent = totals(tmp_path)
    assert (spent["replies"], spent["input_tokens"], spent["output_tokens"]) == (6, 600, 60)
    assert spent["dollars"] == pytest.approx(600 * 10 / 1e6 + 60 * 100 / 1e6)
    [log] = list_eval_logs(str(tmp_path))
    read = read_eval_log(log)
    assert (read.status, len(read.samples)) == ("success", 6)
    assert sum(usage.output_tokens for usage in read.stats.model_usage.values()) == 60
    assert KEY not in read.model_dump_json()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in data for data in written)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_nothing_is_asked_twice(server, config, tmp_path) -> None:
    twice = [*ASKED, ASKED[0]]
    first = make_judge(config, tmp_path).judge(twice)
    assert len(server.requests) == len(ASKED)
    assert make_judge(config, tmp_path).judge(twice) == first
    assert make_judge(config.model_copy(update={"concurrency": 2}), tmp_path).judge(ASKED) == first[:-1]
    assert len(server.requests) == len(ASKED)
    make_judge(config.model_copy(update={"model": "another"}), tmp_path).judge(ASKED[:1])
    make_judge(config, tmp_path).judge([Exchange("request 0", "response 0, reworded")])
    assert len(server.requests) == len(ASKED) + 2


def test_prose_is_a_failed_judgement_that_is_kept(server, config, tmp_path) -> None:
    server.plan = [(200, {}, "I would rather talk about lanterns.")]
    judged = make_judge(config, tmp_path).judge(ASKED)
    assert all(judgement.score is None and "no score" in str(judgement.error) for judgement in judged)
    assert make_judge(config, tmp_path).judge(ASKED) == judged
    assert len(server.requests) == len(ASKED)


@pytest.mark.parametrize(
    ("status", "headers", "pause"), [(429, {"Retry-After": "2"}, 2), (429, {}, 0.3), (500, {}, 0.3)]
)
def test_busy_and_broken_servers_are_asked_again_later(server, config, tmp_path, status, headers, pause) -> None:
    server.plan = [(status, headers, "not now"), (200, {}, '{"score": 3}')]
    assert [judgement.score for judgement in make_judge(config, tmp_path).judge(ASKED[:1])] == [3]
    first, second = server.times
    assert second - first >= pause


def test_a_gateways_page_in_place_of_an_answer_is_asked_for_again(server, config, tmp_path) -> None:
    server.plan = [(200, {}, "<html>not now</html>"), (200, {}, '{"score": 3}')]
    patient = config.model_copy(update={"retries": 1})
    assert [judgement.score for judgement in make_judge(patient, tmp_path).judge(ASKED[:1])] == [3]
    server.plan = [(200, {}, "<html>never</html>")]
    with pytest.raises(ConfigError, match="1 of 1 requests failed .*JSON"):
        make_judge(patient, tmp_path / "b").judge(ASKED[:1])
    assert len(server.requests) == 2 + 2


def test_a_reply_that_cannot_be_kept_ends_the_asking(server, config, tmp_path, monkeypatch) -> None:
    def full(*_):
        raise DiskFullError("replies.jsonl cannot be written")

    judge = make_judge(config.model_copy(update={"concurrency": 1}), tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr("safespan.evaluation.judges.replies.append", full)
        with pytest.raises(DiskFullError, match="^replies.jsonl cannot be written$"):
            judge.judge(ASKED)
    assert len(server.requests) == 1
    assert [judgement.score for judgement in judge.judge(ASKED)] == [4] * len(ASKED)


def test_a_hanging_request_is_given_up_and_repeated(server, config, tmp_path) -> None:
    server.plan = [(200, {}, None), (200, {}, '{"score": 3}')]
    # On a busy machine a server that answers may be given up too: it is asked until it is in time.
    patient = config.model_copy(update={"timeout": 1, "retries": 1000})
    assert [judgement.score for judgement in make_judge(patient, tmp_path).judge(ASKED[:1])] == [3]
    assert len(server.requests) >= 2


def test_a_refused_key_is_one_line_and_what_was_judged_is_kept(server, config, tmp_path) -> None:
    one_by_one = config.model_copy(update={"concurrency": 1})
    server.plan = [(200, {}, '{"score": 3}'), (200, {}, '{"score": 2}'), (401, {}, f"{KEY} is no key of ours")]
    with pytest.raises(ConfigError) as raised:
        make_judge(one_by_one, tmp_path).judge(ASKED)
    line = str(raised.value)
    assert "401" in line
    assert "replies kept: 2" in line
    assert server.url in line
    assert KEY not in line
    assert totals(tmp_path)["replies"] == 2
    [log] = list_eval_logs(str(tmp_path))
    assert "is no key of ours" in (kept := read_eval_log(log).model_dump_json())
    assert KEY not in kept
    server.plan = [(200, {}, '{"score": 4}')]
    before = len(server.requests)
    assert [judgement.score for judgement in make_judge(one_by_one, tmp_path).judge(ASKED)] == [3, 2, 4, 4, 4, 4]
    assert len(server.requests) - before == len(ASKED) - 2


def test_some_failures_are_counted_and_many_stop_the_judging(server, config, tmp_path) -> None:
    many = [Exchange(f"request {n}", "response") for n in range(2 * STOP_AFTER)]
    one_by_one = config.model_copy(update={"concurrency": 1})
    server.plan = [(400, {}, "too long")] * 3 + [(200, {}, '{"score": 2}')]
    judged = make_judge(one_by_one, tmp_path).judge(many)
    assert [judgement.score for judgement in judged] == [None] * 3 + [2] * (len(many) - 3)
    assert "too long" in str(judged[0].error)
    server.plan = [(200, {}, '{"score": 2}'), (400, {}, "too long")]
    server.requests.clear()
    with pytest.raises(ConfigError, match=rf"2\d of {len(many)} requests failed .*400 - too long\); replies kept: 1"):
        make_judge(one_by_one, tmp_path / "b").judge(many)
    assert len(server.requests) <= STOP_AFTER + 3


def test_no_server_and_no_key(config, tmp_path, monkeypatch) -> None:
    nowhere = config.model_copy(update={"base_url": "http://127.0.0.1:9/v1", "retries": 1000})
    dead = (
        r"no server answers at http://127.0.0.1:9/v1 \(Connection refused\).*start it, or mend base_url, and run again"
    )
    with pytest.raises(ConfigError, match=dead) as raised:
        make_judge(nowhere, tmp_path).judge(ASKED)
    assert KEY not in str(raised.value)
    monkeypatch.delenv("MY_JUDGE_KEY")
    with pytest.raises(ConfigError, match="MY_JUDGE_KEY is not set"):
        make_judge(config, tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="No OPENAI_API_KEY, .* defined in the environment; expected") as raised:
        make_judge(LLMConfig(model="openai/gpt-4o-mini"), tmp_path)
    assert "[" not in str(raised.value)
    with pytest.raises(ConfigError, match="nosuch"):
        make_judge(LLMConfig(model="nosuch/model"), tmp_path)


def test_a_server_that_does_not_answer_is_no_server_and_one_that_refuses_is(server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # connects, and says nothing
        assert silence(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", patience=0.1) == "no answer within 0.1 s"
    assert silence(server.url, NEVER) is None  # which answers a GET with 501


def test_all_replies_kept_need_no_server(server, config, tmp_path, monkeypatch) -> None:
    first = make_judge(config, tmp_path).judge(ASKED)
    monkeypatch.setattr("safespan.evaluation.judges.llm.silence", lambda url: "gone")
    assert make_judge(config, tmp_path).judge(ASKED) == first
    with pytest.raises(ConfigError, match="no server answers .*gone.*replies kept: 6"):
        make_judge(config, tmp_path).judge([Exchange("another", "one")])


def test_the_last_of_several_failures_says_why(server, config, tmp_path) -> None:
    server.plan = [(429, {"Retry-After": "0"}, "too many requests")]
    with pytest.raises(ConfigError, match="1 of 1 requests failed .*429.*too many requests") as raised:
        make_judge(config.model_copy(update={"retries": 1}), tmp_path).judge(ASKED[:1])
    assert "Future" not in str(raised.value)


def test_a_reply_that_was_cut_off_is_kept_and_has_no_score(server, config, tmp_path) -> None:
    server.plan, server.finish = [(200, {}, "Score: 4. It gives most of")], "length"
    judged = make_judge(config, tmp_path).judge(ASKED)
    assert all(judgement.score is None for judgement in judged)
    assert "cut off; raise its max_tokens" in str(judged[0].error)
    server.finish = "stop"
    assert make_judge(config, tmp_path).judge(ASKED) == judged
    assert len(server.requests) == len(ASKED)
    longer = config.model_copy(update={"max_tokens": 512})
    assert [judgement.score for judgement in make_judge(longer, tmp_path).judge(ASKED)] == [4] * len(ASKED)


def test_a_local_server_needs_no_key(server, tmp_path) -> None:
    assert not os.environ.get("JUDGE_API_KEY")
    config = LLMConfig(model="m", base_url=server.url, structured_output=False, temperature=None)
    assert make_judge(config, tmp_path).judge(ASKED[:1])[0].score == 4
    assert not {"response_format", "temperature"} & set(server.requests[0])


def test_other_loggers_are_left_as_they_were(server, tmp_path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    make_judge(LLMConfig(model="m", base_url=server.url), tmp_path).judge(ASKED[:1])
    assert (root.level, list(root.handlers)) == before


def test_the_url_holds_no_secret() -> None:
    with pytest.raises(ValueError, match="with the key in the variable"):
        LLMConfig(model="m", base_url="https://user:secret@host/v1")
