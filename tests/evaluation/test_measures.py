"""What the verdict is reckoned from, against one forward pass in float64 for each answer."""

import json
import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from safespan.checkpoints import Checkpoint
from safespan.errors import DataError
from safespan.evaluation import Evaluator, Measures, ModelUnderTest, Prompting, joined, load_model
from safespan.evaluation.measures import _start
from safespan.evaluation.prompting import ChatFormat
from safespan.settings.evaluation import EvaluationConfig
from safespan.settings.verdict import MeasureConfig

USEFUL = [("a b", "c d"), ("e", "f"), ("g h i", "j k l")]
HARMFUL = [("m n", "o p"), ("q", "r s t")]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> ModelUnderTest:
    return load_model(Checkpoint(tiny_model_folder), Prompting(EvaluationConfig(engine={"batch_size": 2})))


@pytest.fixture(scope="module")
def gpt2_like() -> PreTrainedTokenizerFast:
    """A tokenizer with one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({symbol: place for place, symbol in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def pairs(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(json.dumps({"prompt": asked, "target": answer}) + "\n" for asked, answer in rows))
    return str(path)


def measures(folder: Path, **settings: object) -> Measures:
    asked = EvaluationConfig(harmfulness={"prompts": pairs(folder / "harmful.jsonl", HARMFUL), "max_new_tokens": 3})
    given = {"useful": pairs(folder / "useful.jsonl", USEFUL), "prompts": 2, "refusals": ("i cannot", "cannot")}
    return Measures(MeasureConfig(**given | settings), Evaluator(asked, folder))


def log_probabilities(model: ModelUnderTest, prompt: str, answer: str) -> tuple[list[float], torch.Tensor]:
    """Of each token of the answer, and of every token in the place of its first."""
    start = model.tokenizer(f"<bos> <user> {prompt} <bot>")["input_ids"]
    end = model.tokenizer(answer)["input_ids"]
    with torch.no_grad():
        logits = model.model.double()(torch.tensor([start + end])).logits[0].log_softmax(-1)
    model.model.float()
    places = range(len(start) - 1, len(start) + len(end) - 1)
    return [float(logits[place, token]) for place, token in zip(places, end, strict=True)], logits[len(start) - 1]


def test_likelihoods_and_odds_against_one_pass_an_answer(model: ModelUnderTest, tmp_path: Path) -> None:
    answers = measures(tmp_path, generate=False).ask(model)
    assert answers.responses is None
    for name, rows in (("useful_nll", USEFUL[:2]), ("harmful_nll", HARMFUL)):
        each = [log_probabilities(model, *row)[0] for row in rows]
        assert answers.likelihoods[name] == pytest.approx([-sum(row) / len(row) for row in each], abs=1e-5)
        product = [math.exp(sum(row)) for row in each]  # no answer has more than 8 tokens
        assert answers.likelihoods[name.replace("nll", "probability")] == pytest.approx(product, rel=1e-4)
    refusals = model.tokenizer("i cannot")["input_ids"]
    for (prompt, answer), odds in zip(HARMFUL, answers.likelihoods["log_odds"], strict=True):
        (first, *_), there = log_probabilities(model, prompt, answer)
        assert odds == pytest.approx(
            first - math.log(sum(math.exp(float(there[token])) for token in refusals)), abs=1e-5
        )
    expected = [1 / (1 + math.exp(-odds)) for odds in answers.likelihoods["log_odds"]]
    assert answers.likelihoods["compliance"] == pytest.approx(expected, rel=1e-9)
    assert "general_nll" not in answers.likelihoods  # there is no general task


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_answer_probability_is_that_of_the_first_tokens(model: ModelUnderTest, tmp_path: Path, tokens: int) -> None:
    answers = measures(tmp_path, generate=False, answer_tokens=tokens, prompts=3).ask(model)
    for name, rows in (("useful", USEFUL), ("harmful", HARMFUL)):
        expected = [math.exp(sum(log_probabilities(model, *row)[0][:tokens])) for row in rows]
        assert answers.likelihoods[f"{name}_probability"] == pytest.approx(expected, rel=1e-4)


def test_the_start_of_an_answer_cuts_no_character(gpt2_like) -> None:
    """A byte-level tokenizer splits 日 into bytes: a start that ended inside it would be another text."""
    model = ModelUnderTest(None, ChatFormat(EvaluationConfig(), gpt2_like, (0,)))
    answer = "a日b"
    lengths = [len(gpt2_like(answer[:end])["input_ids"]) for end in range(4)]
    assert lengths == [0, 1, 4, 5]
    assert [_start(model, answer, tokens) for tokens in range(1, 6)] == ["a", "a", "a", "a日", "a日b"]


def test_what_is_generated_is_judged_apart(model: ModelUnderTest, tmp_path: Path, monkeypatch) -> None:
    asked = measures(tmp_path)  # rules judge, so that answers are generated unless told otherwise
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Evaluator, "judge", property(lambda _: pytest.fail("a judge where models answer")))
        answers = asked.ask(model)
    assert answers.responses is not None
    assert len(answers.responses.harmful) == len(HARMFUL)
    measured, kept = asked.score(answers)
    assert kept is None
    assert measured.per_prompt["attack"] == [0.0, 0.0]
    rows = asked._evaluator.score(answers.responses)[1]
    refused = [row["refused"] for row in rows if row["kind"] == "harmful"]
    assert measured.per_prompt["not_refused"] == [float(not one) for one in refused]
    assert measured.per_prompt["useful_nll"] == pytest.approx(answers.likelihoods["useful_nll"], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"useful": None}, "a trial needs evaluation.utility"),
        ({"refusals": ("o no",)}, "begins as the forbidden answer does"),
    ],
)
def test_what_cannot_be_measured_is_refused(model: ModelUnderTest, tmp_path: Path, settings, says) -> None:
    with pytest.raises(DataError, match=says):
        measures(tmp_path, **settings).ask(model)


def test_parts_of_the_prompts_joined_are_the_whole(model: ModelUnderTest, tmp_path: Path) -> None:
    """Three useful and two harmful prompts: the last part has no harmful one."""
    whole = measures(tmp_path, prompts=3)
    expected, _ = whole.score(whole.ask(model))
    parts = []
    for part in ((0, 1), (1, 2), (2, 3)):
        own = Measures(whole.config, whole._evaluator.part((0, None)), part)
        parts.append(own.score(own.ask(model))[0])
    assert "harmful_nll" not in parts[2].per_prompt
    together = joined(parts)
    assert together.per_prompt.keys() == expected.per_prompt.keys()
    for name, values in expected.per_prompt.items():
        assert together.per_prompt[name] == pytest.approx(values, abs=1e-6)
    assert together.first(1).per_prompt["useful_nll"] == together.per_prompt["useful_nll"][:1]
