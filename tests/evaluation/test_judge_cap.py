"""A run whose judge has a cap: it stops before the next point, and goes on once the cap is raised."""

import json
from pathlib import Path

import pytest

from safespan.errors import ConfigError
from safespan.results import Manifest
from safespan.settings import load_study
from safespan.study.costs.estimate import estimate
from safespan.study.run import run_study

MODELS, POINTS, PROMPTS = 3, 1, 2
MOST = (1000 + 500) * 10 / 1e6 + 256 * 100 / 1e6
"""More than a reply is reckoned to cost before there are twenty."""


def test_it_stops_between_two_models_and_finishes_later(server, judged_study, tmp_path: Path) -> None:
    prices = {"input_price": 10, "output_price": 100, "max_cost": PROMPTS * MOST}
    judge = {"kind": "llm", "model": "m", "base_url": server.url, "retries": 0, "timeout": 86_400, **prices}
    file, out = judged_study(tmp_path, judge), tmp_path / "run"
    study = load_study(file, ["execution.workers=1"])
    most = estimate(study, out).most
    assert most.judge_calls == PROMPTS * (MODELS + POINTS)
    with pytest.raises(ConfigError, match="of max_cost = .* are spent, and the next 2 replies would cost about"):
        run_study(study, out)
    asked = len(server.requests)
    finished = list((out / "results" / "points").glob("*.json"))
    assert 0 < len(finished) < MODELS
    assert 0 < asked <= PROMPTS * len(finished)  # equal answers are asked about once
    before = {path: path.read_bytes() for path in finished}

    raised = load_study(file, ["execution.workers=1", "evaluation.harmfulness.judge.max_cost=100"])
    run_study(raised, out)
    assert {path: path.read_bytes() for path in finished} == before
    questions = [json.dumps(one) for one in server.asked()]
    assert len(questions) == len(set(questions)) <= most.judge_calls
    [totals] = Manifest.read(out / "manifest.json").judge
    assert (totals["replies"], totals["input_tokens"]) == (len(questions), 100 * len(questions))
