"""The cap of a judge that is paid for, and the totals that it counts by."""

import json

import pytest

from safespan.errors import ConfigError, DataError
from safespan.evaluation.judges import Exchange, make_judge
from safespan.settings.judges import LLMConfig

ASKED = [Exchange(f"request {n}", f"response {n}") for n in range(40)]
REPLY = 100 * 10 / 1e6 + 10 * 100 / 1e6
"""What a reply of the server costs: 100 tokens in at 10 a million, 10 out at 100."""


@pytest.fixture
def config(server):
    return LLMConfig(model="m", base_url=server.url, retries=0, timeout=86_400, input_price=10, output_price=100)


def test_it_stops_before_the_cap_and_goes_on_once_that_is_raised(server, config, tmp_path):
    make_judge(config, tmp_path).judge(ASKED[:25])
    capped = config.model_copy(update={"max_cost": 30 * REPLY})
    judge = make_judge(capped, tmp_path)  # of the same run, later on
    judge.check_cost(5)
    judge.judge(ASKED[:28])
    with pytest.raises(
        ConfigError, match=r"0\.056 of max_cost = 0\.06 are spent, .* 12 replies would cost about 0\.02"
    ):
        judge.judge(ASKED)
    assert len(server.requests) == 28
    judge.judge(ASKED[:28])  # what is kept costs nothing
    raised = make_judge(capped.model_copy(update={"max_cost": 41 * REPLY}), tmp_path)
    raised.judge(ASKED)
    assert len(server.requests) == 40
    [totals] = tmp_path.glob("*/totals.json")
    assert json.loads(totals.read_text())["dollars"] == pytest.approx(40 * REPLY)


def test_the_first_replies_are_reckoned_at_their_most(server, config, tmp_path):
    with pytest.raises(ConfigError, match="0 of max_cost"):
        make_judge(config.model_copy(update={"max_cost": REPLY}), tmp_path).judge(ASKED[:1])
    assert server.requests == []


def test_other_judges_of_the_run_count_and_so_do_replies_that_are_lost(server, config, tmp_path):
    make_judge(config.model_copy(update={"max_tokens": 64}), tmp_path).judge(ASKED[:20])
    make_judge(config, tmp_path).judge(ASKED[:25])
    capped = make_judge(config.model_copy(update={"max_cost": 50 * REPLY}), tmp_path)
    capped.check_cost(5)
    with pytest.raises(ConfigError, match="max_cost"):
        capped.check_cost(6)
    for replies in tmp_path.glob("*/replies.jsonl"):
        replies.write_text("".join(replies.read_text().splitlines(keepends=True)[:20]))
    with pytest.raises(ConfigError, match=r"0\.09 of"):
        make_judge(config.model_copy(update={"max_cost": 50 * REPLY}), tmp_path).check_cost(6)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"input_tokens": 1}', '{"input_tokens": -1, "output_tokens": "2"}'])
def test_totals_that_cannot_be_read_are_refused(server, config, tmp_path, text):
    make_judge(config, tmp_path).judge(ASKED[:2])
    [totals] = tmp_path.glob("*/totals.json")
    totals.write_text(text)
    with pytest.raises(DataError, match=r"totals.json: cannot be read .* is not known: restore it, or remove it"):
        make_judge(config, tmp_path)
    totals.unlink()
    make_judge(config, tmp_path).judge(ASKED[:2])
    assert json.loads(totals.read_text())["input_tokens"] == 200
    assert len(server.requests) == 2
