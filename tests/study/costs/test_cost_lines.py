"""What a dry run says of costs, of studies whose models are here and of those whose are not."""

from dataclasses import replace
from datetime import datetime

import pytest

from safespan.settings.presets import PUBLISHED_ROWS
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.study.costs.estimate import estimate
from safespan.study.costs.rates import Calibration, this_machine, write_calibration
from safespan.study.costs.told import cost_lines, duration, size

NOON = datetime(2026, 1, 1, 12, 0)
PAIRS = ("llama-3.2-1b", "llama-2-7b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b")
PRICES = [f"evaluation.harmfulness.judge.{field}" for field in ("input_price=0.5", "output_price=2")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))


def told(costs):
    return dict(line.split(": ", 1) for line in cost_lines(costs, NOON)[1:])


@pytest.mark.parametrize("name", PAIRS)
def test_the_papers_studies_say_what_is_known_of_models_that_are_not_here(name, tmp_path):
    study = load_study(bundled_study(name))
    costs = estimate(study, tmp_path / "run")
    lines, gigabytes = told(costs), study.models["base"].size_gb
    models, points = 5, 90
    calls = (models + points) * PUBLISHED_ROWS["walledai/AdvBench train"]
    responses = calls + (models + points) * PUBLISHED_ROWS["gsm8k"]
    assert costs.most.judge_calls == calls
    assert costs.most.judge_output_tokens == calls * study.evaluation.harmfulness.judge.max_tokens
    assert costs.most.new_tokens == calls * 512 + (responses - calls) * 256
    assert lines["time"].startswith("unknown on this machine: run safespan calibrate")
    assert f"{2 * gigabytes:.1f} GB of downloads" in lines["disk"]
    assert "an unknown number of tokens of prompts" in lines["generation"]
    assert lines["money"].startswith("unknown: set input_price and output_price")
    assert "tokens of prompts" in lines["not counted"]
    assert (costs.most.steps, costs.most.trainings) == (625 + 125 + 750, 3)  # batches of 32 rows
    assert not (tmp_path / "run").exists()


def test_tokens_of_harmful_prompts_alone_are_said_to_be_unknown(tmp_path):
    study = load_study(bundled_study("llama-3.2-1b"), ["evaluation.utility=null", "verdict=null"])
    assert "tokens of prompts" in told(estimate(study, tmp_path / "run"))["not counted"]


def test_time_that_no_rate_covers_is_said(tmp_path):
    study, threads = load_study(bundled_study("planted"), ["execution.workers=1"]), 1
    machine = this_machine()
    seconds = {"training, a step": 0.01, "start": 1.0}
    write_calibration(
        Calibration(
            processor=machine.processor, device=machine.device, threads=threads, made="2026-01-01T00:00:00+00:00",
            safespan="0", parameters=(1, 10**9), seconds=seconds,
        )
    )  # fmt: skip
    lines = told(estimate(study, tmp_path / "run"))
    assert "the time of opening, " in lines["not counted"]
    assert lines["not counted"].endswith("(run safespan calibrate again)")
    assert lines["time"].endswith("; what is not counted (below) comes on top")


def test_a_test_without_a_claim_that_fits_has_a_time(tmp_path):
    settings = ["models.contaminated.start=aligned", "models.contaminated.train.protect=null", "execution.workers=1"]
    settings.append("models.contaminated.train.contaminate_with={file: '{run}/data/train/forbidden.jsonl'}")
    settings += ["verdict.tests=[update, training]", "verdict.hypotheses=[asft]", "verdict.training.hypotheses=null"]
    costs = estimate(load_study(bundled_study("planted"), settings), tmp_path / "run")
    machine = this_machine()
    place = {"processor": machine.processor, "device": machine.device, "threads": 1, "safespan": "0"}
    rates = Calibration(**place, made="2026-01-01T00:00:00+00:00", parameters=(1, 10**9), seconds={"opening": 0.5})
    span = replace(costs, rates=rates).seconds("update test")
    assert costs.stages["update test"].most.points == 0
    assert span.least == span.most == 0.5 * costs.stages["update test"].most.opened > 0


def test_money_follows_from_prices_and_the_cap_is_said(tmp_path):
    cap = ["evaluation.harmfulness.judge.max_cost=7"]
    costs = estimate(load_study(bundled_study("llama-3.2-1b"), [*PRICES, *cap]), tmp_path / "run")
    most = costs.most
    money = (0.5 * most.judge_input_tokens + 2 * most.judge_output_tokens) / 1e6
    assert costs.money == pytest.approx(money)
    assert told(costs)["money"] == (
        f"at most {money:,.2f}, in the currency of the judge's prices; the run stops before it passes max_cost = 7.00"
    )


@pytest.mark.parametrize("name", ["organism", "organism-full", "planted"])
def test_studies_of_the_embedded_family_are_counted_whole(name, tmp_path):
    costs = estimate(load_study(bundled_study(name)), tmp_path / "run")
    assert costs.unknown == []
    assert (costs.shape.parameters, costs.shape.layers) == (169_664, 3)
    assert (told(costs)["judge"], told(costs)["money"]) == ("no judge that costs money", "none")
    assert costs.time is None


@pytest.mark.parametrize(("wanted", "asked"), [(100_000, 300), (5, 5)])
def test_no_more_prompts_are_said_than_there_are(wanted, asked, tmp_path):
    study = load_study(bundled_study("planted"), [f"verdict.prompts={wanted}"])
    costs = estimate(study, tmp_path / "run")
    assert told(costs)["prompts"] == f"a test asks at most {asked} of each kind"


def test_seeds_are_said(tmp_path):
    costs = estimate(load_study(bundled_study("planted"), ["replicates=3"]), tmp_path / "run")
    assert cost_lines(costs, NOON)[0] == "costs of each of 3 seeds:"


def test_money_is_of_all_seeds_and_says_so(tmp_path):
    settings = [*PRICES, "evaluation.harmfulness.judge.max_cost=7", "replicates=3"]
    costs = estimate(load_study(bundled_study("llama-3.2-1b"), settings), tmp_path / "run")
    assert told(costs)["money"] == (
        f"at most {3 * costs.money:,.2f} for all 3 seeds, in the currency of the judge's prices; the run of each seed "
        "stops before it passes max_cost = 7.00"
    )


def test_an_engine_whose_time_was_not_measured_is_named(tmp_path):
    study = load_study(bundled_study("planted"), ["evaluation.engine.name=hf"])
    assert "what the engine hf changes: time and memory are those of" in told(estimate(study, tmp_path))["not counted"]


def test_a_model_of_unknown_size_is_no_error(tmp_path):
    fields = {
        "name": "s",
        "models": {"base": {"model": "org/b"}, "aligned": {"model": "org/a"}, "useful": {"model": "org/u"}},
    }
    lines = told(estimate(StudyConfig.model_validate(fields), tmp_path / "run"))
    assert lines["disk"].startswith("unknown: the size of the models")
    assert "downloads of unknown size" in lines["disk"]
    assert lines["memory"].startswith("unknown")


def test_a_cap_needs_prices():
    with pytest.raises(Exception, match="max_cost: needs input_price and output_price"):
        load_study(bundled_study("llama-3.2-1b"), ["evaluation.harmfulness.judge.max_cost=7"])


def test_units():
    assert [duration(s) for s in (0.2, 45, 120, 5400, 200_000)] == ["1 second", "45 seconds", "2 minutes",
        "1.5 hours", "2.3 days"]  # fmt: skip
    assert [size(b) for b in (900, 2e6, 3e9, 4e12)] == ["0.9 kB", "2.0 MB", "3.0 GB", "4.0 TB"]
