import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from safespan.checkpoints import Checkpoint
from safespan.data import Conversation
from safespan.errors import CheckpointError, ConfigError, DataError
from safespan.evaluation import Evaluator, ModelUnderTest, Prompting, WeightSwitch, load_model
from safespan.evaluation.judges import Judgement
from safespan.evaluation.model import in_memory
from safespan.evaluation.outcomes import Responses, outcomes
from safespan.evaluation.utility import build_tasks
from safespan.files.atomic import write_jsonl
from safespan.models.loading import load_causal_lm
from safespan.results.tables import Outcomes
from safespan.settings.evaluation import EvaluationConfig, UtilityConfig

QUESTIONS = ["a b", "c", "d e f g", "h i j", "k l m n o"]
NEW_TOKENS = 6


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> ModelUnderTest:
    return load_model(Checkpoint(tiny_model_folder), Prompting(EvaluationConfig(engine={"batch_size": 3})))


def greedy(model: ModelUnderTest, prompt: str, tokens: int = NEW_TOKENS) -> str:
    """The model's response, token by token, alone, unpadded and without a cache."""
    ids = model.tokenizer(f"<bos> <user> {prompt} <bot>", return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for _ in range(tokens):
        with torch.no_grad():
            following = model.model(ids).logits[0, -1].argmax()
        if following == model.tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, following.view(1, 1)], 1)
    return model.tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


def write_task(folder: Path, name: str, answers: list[str]) -> Path:
    """A local task that asks QUESTIONS."""
    rows = [{"prompt": asked, "answer": answer} for asked, answer in zip(QUESTIONS, answers, strict=True)]
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["<eos>"], "do_sample": False, "max_gen_toks": NEW_TOKENS},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(task))
    return path


@pytest.fixture(scope="module")
def study(model: ModelUnderTest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Tasks of which the model gets a known part right: its responses are computed by `greedy`."""
    folder = tmp_path_factory.mktemp("study")
    responses = [greedy(model, question) for question in QUESTIONS]
    harmful = [
        {"prompt": "o p", "target": greedy(model, "o p")},
        {"prompt": "q", "target": "nothing such"},
        {"prompt": "r s t", "target": greedy(model, "r s t")},
    ]
    (folder / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in harmful))
    config = EvaluationConfig(
        utility={"task": str(write_task(folder, "tiny_skill", [*responses[:3], "wrong", "wrong"]))},
        general={"task": str(write_task(folder, "tiny_general", [responses[0], "wrong", *responses[2:]])), "limit": 4},
        harmfulness={"prompts": str(folder / "harmful.jsonl"), "max_new_tokens": NEW_TOKENS},
    )
    return SimpleNamespace(folder=folder, config=config, responses=responses, evaluator=Evaluator(config, folder))


def test_outcomes_against_generation_one_by_one(study, model: ModelUnderTest, capfd) -> None:
    scores, rows = study.evaluator.evaluate(model)
    measured = scores.outcomes
    assert isinstance(measured, Outcomes)
    assert (measured.utility, measured.n_utility) == (3 / 5, 5)
    assert scores.utility_by_filter == {"none": 3 / 5}
    assert (measured.general_ability, measured.n_general) == (3 / 4, 4)
    assert measured.attack_success_rate == pytest.approx(2 / 3)
    assert measured.harmfulness == pytest.approx((5 + 2 + 5) / 3)
    assert (measured.refusal_rate, measured.n_harmful) == (0, 3)
    assert measured.utility_ci_low < 3 / 5 < measured.utility_ci_high
    assert [row["response"] for row in rows if row["kind"] == "utility"] == study.responses
    assert [row["prompt"] for row in rows if row["kind"] == "general"] == QUESTIONS[:4]
    assert [row["score"] for row in rows if row["kind"] == "harmful"] == [5, 2, 5]
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")


def test_same_again_after_other_weights(study, model: ModelUnderTest) -> None:
    first = study.evaluator.evaluate(model)
    with WeightSwitch(model.model) as switch:
        switch.set([("model.embed_tokens.weight", -model.model.state_dict()["model.embed_tokens.weight"])])
        assert study.evaluator.evaluate(model)[0].outcomes.utility != first[0].outcomes.utility
    assert study.evaluator.evaluate(model) == first


def test_a_model_without_template_gets_the_bare_prompt(study, tiny_model_folder: Path) -> None:
    base = load_model(Checkpoint(tiny_model_folder))
    base.tokenizer.chat_template = None
    _, rows = study.evaluator.evaluate(base)
    bare = base.generate(["o p"], NEW_TOKENS, chat_template=False)
    assert [row["response"] for row in rows if row["kind"] == "harmful"][:1] == bare
    assert bare != [greedy(base, "o p")]


def test_a_conversation_is_asked_in_its_turns(study, model: ModelUnderTest) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    write_jsonl(study.folder / "chats.jsonl", [{"messages": turns}, {"messages": turns[:1]}])
    config = EvaluationConfig(harmfulness={"prompts": str(study.folder / "chats.jsonl"), "max_new_tokens": NEW_TOKENS})
    _, rows = Evaluator(config, study.folder).evaluate(model)
    assert [row["response"] for row in rows] == [greedy(model, "a <bot> b <eos> <user> c"), greedy(model, "a")]
    assert [row["prompt"] for row in rows] == ["user: a\n\nassistant: b\n\nuser: c", "a"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ tools[0].name }}", "its chat template fails (None has no element 0)"),
        ("<user> <bot>", "its chat template leaves out what the user says"),
    ],
)
def test_a_chat_template_that_fails_is_named_before_the_tasks(study, tiny_model_folder, template, says) -> None:
    broken = load_model(Checkpoint(tiny_model_folder))
    broken.tokenizer.chat_template = template
    with pytest.raises(CheckpointError, match=f"^{re.escape(f'{tiny_model_folder}: {says}')}"):
        study.evaluator.ask(broken)


@pytest.mark.parametrize("number", [None, 34])
def test_a_pad_token_that_the_model_does_not_have_is_replaced(model: ModelUnderTest, tiny_model_folder, number) -> None:
    prompts = ["a", "b c d e", "f g"]
    loaded, tokenizer = load_causal_lm(tiny_model_folder)
    tokenizer.pad_token = None
    if number is not None:
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
        assert tokenizer.pad_token_id == number == len(loaded.get_input_embeddings().weight)
    three = Prompting(EvaluationConfig(engine={"batch_size": 3}))
    changed = in_memory(loaded, three.format_of(Checkpoint(tiny_model_folder), tokenizer))
    answers = [greedy(model, prompt) for prompt in prompts]
    assert changed.generate(prompts, NEW_TOKENS, chat_template=True) == answers


def test_a_template_that_refuses_the_system_is_not_asked_without_it(tiny_model_folder: Path) -> None:
    model = load_model(Checkpoint(tiny_model_folder))
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    model.tokenizer.chat_template = refuses + model.tokenizer.chat_template
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]
    with pytest.raises(CheckpointError, match="its chat template fails .no system."):  # lm-eval would ask without it
        model.as_turn(Conversation(chat))
    assert model.as_turn("a") == "<bos> <user> a <bot> "


def test_long_responses_stop_at_the_end_of_the_context(model: ModelUnderTest) -> None:
    assert model.generate(["o p"], 512, chat_template=True) == [greedy(model, "o p", 64 - 5)]
    with pytest.raises(DataError, match="fills the model's context of 64 tokens"):
        model.generate(["a " * 70], 5, chat_template=True)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"metric": "f1"}, ConfigError, "no metric 'f1'; it has exact_match"),
        ({"filter": "strict"}, ConfigError, "no filter 'strict'; it has none"),
    ],
)
def test_bad_task_settings(study, change: dict[str, str], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        build_tasks({"utility": study.config.utility.model_copy(update=change)})


def test_task_without_documents_and_task_given_twice(study, tmp_path: Path) -> None:
    path = write_task(tmp_path, "tiny_lost", QUESTIONS)
    (tmp_path / "tiny_lost.jsonl").unlink()
    with pytest.raises(DataError, match="cannot be loaded"):
        build_tasks({"utility": UtilityConfig(task=str(path))})
    with pytest.raises(ConfigError, match="the same task"):
        build_tasks({"utility": study.config.utility, "general": study.config.utility})


@pytest.mark.parametrize(("failed", "valid"), [(2, True), (3, False)])
def test_failed_judgements_are_counted_and_over_two_percent_are_invalid(failed: int, valid: bool) -> None:
    judged = [Judgement(5, False, "")] * (100 - failed) + [Judgement(None, None, "", "no answer")] * failed
    measured = outcomes({}, judged, [], 0)
    assert (measured.n_harmful, measured.n_judge_failed, measured.valid) == (100, failed, valid)
    assert (measured.attack_success_rate, measured.harmfulness, measured.refusal_rate) == (1, 5, 0)


def test_what_has_no_answer_is_counted_and_is_neither_success_nor_refusal(study) -> None:
    """Two of three harmful responses have no answer: the rates are over all three."""
    asked = Responses({}, ["<think>so", "i cannot help with that", " \n"], [])
    config = study.config.model_copy(update={"utility": None, "general": None})
    scores, rows = Evaluator(config, study.folder).score(asked)
    assert [(row["score"], row["refused"]) for row in rows] == [(2, None), (1, True), (2, None)]
    measured = scores.outcomes
    assert (measured.n_no_answer, measured.n_harmful, measured.n_judge_failed) == (2, 3, 0)
    assert (measured.attack_success_rate, measured.refusal_rate) == (0, pytest.approx(1 / 3))


def task_with(study, folder: Path, **fields) -> UtilityConfig:
    path = write_task(folder, "tiny_changed", study.responses)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))
    return UtilityConfig(task=str(path))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"doc_to_text": "{{prmpt.x}}"}, "it fails .*prmpt"),
        ({"doc_to_target": "{{ answer"}, "it fails"),
        ({"test_split": "other"}, "it fails|cannot be loaded"),
        ({"metric_list": [{"metric": "bleu"}], "doc_to_target": "a b"}, "choose one that is 0 or 1|no metric"),
    ],
)
def test_a_faulty_task_is_one_line_before_a_model_answers(fields, says, study, tmp_path: Path) -> None:
    config = task_with(study, tmp_path, **fields)
    if "metric_list" in fields:
        config = config.model_copy(update={"metric": "bleu"})
    with pytest.raises((ConfigError, DataError), match=says):
        build_tasks({"utility": config})


def test_what_a_task_says_as_the_system_is_not_dropped(study, tiny_model_folder: Path, tmp_path: Path) -> None:
    drops = load_model(Checkpoint(tiny_model_folder))
    drops.tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %} <bot> "
    refuses = load_model(Checkpoint(tiny_model_folder))
    refuses.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    refuses.tokenizer.chat_template += "{{ messages[0].content }} <bot> "
    config = EvaluationConfig(utility=task_with(study, tmp_path, description="k l m"))
    for model, says in ((drops, "leaves out what the system says"), (refuses, r"fails \(no system\)")):
        with pytest.raises(CheckpointError, match=says):
            Evaluator(config, tmp_path).ask(model)


def test_a_long_question_is_named_by_its_number(study, model: ModelUnderTest, tmp_path: Path) -> None:
    config = task_with(study, tmp_path)
    data = tmp_path / "tiny_changed.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[2]["prompt"] = "a " * 70
    write_jsonl(data, rows)
    with pytest.raises(DataError, match="questions of the utility task: document 3 has 7. tokens"):
        Evaluator(EvaluationConfig(utility=config), tmp_path).ask(model)


def test_the_choice_that_is_most_likely_is_the_response(study, model: ModelUnderTest, tmp_path: Path) -> None:
    fields = {"output_type": "multiple_choice", "doc_to_choice": ["a", "b"], "doc_to_target": 0}
    config = task_with(study, tmp_path, **fields, metric_list=[{"metric": "acc"}]).model_copy(update={"metric": "acc"})
    scores, rows = Evaluator(EvaluationConfig(utility=config), tmp_path).evaluate(model)
    assert [row["score"] for row in rows] == [int(row["response"] == "a") for row in rows]
    assert {row["response"] for row in rows} <= {"a", "b"}
    assert scores.outcomes.n_no_answer == 0


def test_lengths_are_checked_once_for_models_that_read_the_same(study, model: ModelUnderTest, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("safespan.evaluation.outcomes.check_questions", lambda *given: asked.append(given[-1]))
    evaluator = Evaluator(study.config, study.folder)
    for _ in range(3):
        evaluator.ask(model)
    assert asked == ["questions of the utility task", "questions of the general task"]
