import socket

import pytest

from safespan.settings.study import bundled_study, load_study
from safespan.study.plan import plan
from safespan.study.summaries import grid_points

DOWNLOADS = "downloads, of what is not in the cache: "
PAIRS = ("llama-3.2-1b", "llama-2-7b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a dry run asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.mark.parametrize("name", PAIRS)
def test_the_papers_studies_are_valid_and_say_what_they_need(name, tmp_path):
    study = load_study(bundled_study(name))
    assert grid_points(study) == 90
    lines = plan(study, tmp_path / "run")
    text = "\n".join(lines)
    base = study.models["base"]
    assert f"model base: {base.model}, {base.size_gb} GB" in text
    assert f"weights of all models together: {2 * base.size_gb + 3 * 2 * base.size_gb:.1f} GB" in text
    assert "rows mixed into contaminated, 20 % of the number of its other rows: PKU-Alignment/BeaverTails" in text
    assert "stage projection: 90 points" in text
    assert "stage update overlap: of each tensor and each layer, at 11 shares of energy; spectra" in text
    for needed in (base.model, "meta-math/MetaMathQA", "walledai/AdvBench", "lm-eval task gsm8k"):
        assert needed in lines[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "count"), [("organism", 120), ("smollm2", 54)])
def test_studies_that_make_their_own_data_download_nothing_from_a_hub(name, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "downloads").mkdir()  # the study of SmolLM2 names two files that are to be put there
    (tmp_path / "downloads" / "champ.jsonl").write_text("".join(f'{{"prompt": "a {n}"}}\n' for n in range(200)))
    (tmp_path / "downloads" / "harmbench.txt").write_text("".join(f"b {n}\n" for n in range(200)))
    lines = plan(load_study(bundled_study(name)), tmp_path / "run")
    assert f"stage projection: {count} points, each answers what a model answers" in lines
    assert "/data/test/restricted.jsonl, made by the run" in "\n".join(lines)
    assert ("useful prompts for activations: downloads/champ.jsonl, 150 rows" in lines) == (name == "smollm2")
    assert lines[-1] in (f"{DOWNLOADS}none", f"{DOWNLOADS}downloads/smollm2.gguf")


def test_a_test_is_said_to_ask_no_more_than_there_is(tmp_path):
    settings = ["verdict.prompts=1000", "verdict.tests=[ablation]", "verdict.ablation.hypotheses=[actsvd, random]"]
    [line] = [
        line for line in plan(load_study(bundled_study("organism"), settings), tmp_path) if "ablation test:" in line
    ]
    points, weaker = 2 * 6 * (1 + 12), 2 * 6 * (1 + 12)  # 6 fractions, and 6 times half of the strength
    assert f"; at most {points} points, and {weaker} of less strength" in line
    assert "each is asked 1000 prompts of each kind, or all if there are fewer" in line
