"""The same weights give the same answers, whatever lies beside them and however they are given."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import CheckpointError, ConfigError, DataError
from safespan.evaluation import Evaluator, Prompting, SwitchedModel, load_model, model_of
from safespan.evaluation.prompting import ChatFormat, end_ids
from safespan.projection import Change
from safespan.settings.evaluation import EvaluationConfig
from tiny_model import CHAT_TEMPLATE, build_tiny_tokenizer

PROMPTS = ["a b", "c d e", "f", "g h i j k"]
HOSTILE = {"repetition_penalty": 1.8, "num_beams": 3, "no_repeat_ngram_size": 1, "max_new_tokens": 2, "do_sample": True}
HOSTILE |= {"temperature": 3.0, "bad_words_ids": [[8]], "min_new_tokens": 5}


def answers(model) -> list[str]:
    return model.generate(PROMPTS, 12, chat_template=True)


def folder_with(folder: Path, to: Path, generation=None, template=None) -> Path:
    """A copy of a model's folder with another generation configuration or chat template."""
    shutil.copytree(folder, to)
    if generation is not None:
        known = json.loads((to / "generation_config.json").read_text())
        (to / "generation_config.json").write_text(json.dumps(known | generation))
    if template is not None:
        (to / "chat_template.jinja").write_text(template)
    return to


@pytest.fixture(scope="module")
def greedy(tiny_model_folder: Path) -> list[str]:
    """The answers by hand: the most likely token, one after another, by Transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    found = []
    for prompt in PROMPTS:
        ids = tokenizer(f"<bos> <user> {prompt} <bot>", return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        for _ in range(12):
            best = model(ids).logits[0, -1].argmax()
            if best == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, best[None, None]], dim=1)
        found.append(tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip())
    return found


@pytest.mark.parametrize("engine", ["memory", "hf"])
@pytest.mark.parametrize("given", ["folder", "adapter", "point"])
def test_the_same_weights_give_the_same_answers(engine, given, greedy, tiny_model_folder: Path, tmp_path: Path):
    hostile = folder_with(tiny_model_folder, tmp_path / "hostile", HOSTILE, "other {{ messages[0]['content'] }}")
    said = Prompting(EvaluationConfig(engine={"name": engine, "batch_size": 3}), Checkpoint(tiny_model_folder))
    if given == "point":  # the aligned model's own folder has the hostile files
        own = folder_with(tiny_model_folder, tmp_path / "aligned", HOSTILE)
        switched = SwitchedModel(Prompting(said.config, Checkpoint(own)), Checkpoint(own), tmp_path)
        zero = (Change(n, 0 * Checkpoint(own).load(n).float(), (False, False)) for n in Checkpoint(own).names)
        with switched.with_weights(zero) as model:
            assert answers(model.open()) == greedy
        return
    name = str(hostile)
    if given == "adapter":
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(hostile), LoraConfig(target_modules=["q_proj"]))
        model.save_pretrained(tmp_path / "adapter")  # B is zero
        name += f"+{tmp_path / 'adapter'}"
    with model_of(said, open_checkpoint(name), tmp_path) as model:
        assert answers(model) == greedy


def test_hostile_files_do_change_answers_of_transformers(greedy, tiny_model_folder: Path, tmp_path: Path):
    """The test above could not fail otherwise."""
    hostile = folder_with(tiny_model_folder, tmp_path / "hostile", {"repetition_penalty": 1.8})
    model, tokenizer = AutoModelForCausalLM.from_pretrained(hostile), AutoTokenizer.from_pretrained(hostile)
    ids = tokenizer(f"<bos> <user> {PROMPTS[0]} <bot>", return_tensors="pt")
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=12)[0, 5:], skip_special_tokens=True)
    assert text.strip() != greedy[0]


def test_a_template_of_its_own_counts_where_that_is_asked(tiny_model_folder: Path, tmp_path: Path):
    aligned, other = Checkpoint(tiny_model_folder), "<bos> c {{ messages[0]['content'] }}"
    folder = folder_with(tiny_model_folder, tmp_path / "other", template=other)
    said = {}
    for chosen in ("aligned", "own"):
        model = load_model(Checkpoint(folder), Prompting(EvaluationConfig(chat_template=chosen), aligned))
        said[chosen] = model.as_turn("a")
    assert said == {"aligned": "<bos> <user> a <bot> ", "own": "<bos> c a"}


def test_a_model_without_a_template_is_given_that_of_the_aligned_model(tiny_model_folder: Path, tmp_path: Path):
    bare = folder_with(tiny_model_folder, tmp_path / "base")
    (bare / "chat_template.jinja").unlink()
    aligned = Checkpoint(tiny_model_folder)
    assert load_model(Checkpoint(bare), Prompting(EvaluationConfig(), aligned)).has_chat_template
    assert not load_model(Checkpoint(bare), Prompting(EvaluationConfig())).has_chat_template


def test_another_vocabulary_keeps_its_own_template(tiny_model_folder: Path, tmp_path: Path):
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["new"])
    tokenizer.chat_template = "own"
    other = Checkpoint(folder_with(tiny_model_folder, tmp_path / "other"))
    chat_format = Prompting(EvaluationConfig(), Checkpoint(tiny_model_folder)).format_of(other, tokenizer)
    assert chat_format.tokenizer is tokenizer


def test_what_is_done_otherwise_than_a_folder_says_is_told(tiny_model_folder: Path, tmp_path: Path):
    aligned = Checkpoint(tiny_model_folder)
    hostile = folder_with(tiny_model_folder, tmp_path / "hostile", HOSTILE, template="other")
    bare = folder_with(tiny_model_folder, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()

    def told(folder, **settings):
        return " | ".join(Prompting(EvaluationConfig(**settings), aligned).departures(Checkpoint(folder)))

    assert told(tiny_model_folder) == ""
    assert "asks for" in told(hostile)
    assert all(f"{name} {HOSTILE[name]}" in told(hostile) for name in ("repetition_penalty", "num_beams"))
    assert "temperature" not in told(hostile)
    assert "is not that of the aligned model; the aligned model's is used" in told(hostile)
    assert "its own is used, as asked" in told(hostile, chat_template="own")
    assert "it has no chat template; the aligned model's is used" in told(bare)
    assert "it gets bare prompts, as asked" in told(bare, chat_template="own")


def format_of(template: str = CHAT_TEMPLATE, **thinking) -> ChatFormat:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = template
    return ChatFormat(EvaluationConfig(thinking=thinking), tokenizer, (2,))


@pytest.mark.parametrize(
    ("prompt", "said", "answer"),
    [
        ("q", "a plain answer", "a plain answer"),
        ("q", "<think>\nI cannot, can I?\n</think>\n\nYes.", "Yes."),
        ("q <think>\n", "I should refuse.\n</think> Sure", "Sure"),
        ("q", "<think>\nand on and on", ""),
        ("q <think>\n", "and on and on", ""),
        ("q", "first <think>a</think> then <think>b</think> last", "last"),
        ("q", "It writes <think> in the middle.", "It writes <think> in the middle."),
    ],
)
def test_what_follows_the_thinking_is_the_answer(prompt, said, answer):
    assert format_of().answer(prompt, said) == answer


def test_other_markers_of_thinking():
    chat_format = format_of(start="[THINK]", end="[/THINK]")
    assert chat_format.answer("q", "[THINK] a [/THINK] b") == "b"
    assert chat_format.answer("q", "<think> a </think> b") == "<think> a </think> b"


def test_thinking_is_switched_off_by_the_template():
    template = "{{ messages[0]['content'] }} {% if enable_thinking %}on{% else %}off{% endif %}"
    texts = [
        format_of(template, **given).text([{"role": "user", "content": "a"}])
        for given in ({"enable": True}, {"enable": False}, {})
    ]
    assert texts == ["a on", "a off", "a off"]


def test_likelihoods_are_of_an_answer_behind_the_thinking(tiny_model_folder: Path, tmp_path: Path):
    folder = folder_with(tiny_model_folder, tmp_path / "thinks", template=CHAT_TEMPLATE + "{{ '<think>\\n' }}")
    assert load_model(Checkpoint(folder)).before_answer("a") == "<bos> <user> a <bot> <think>\n</think>\n\n"
    plain = load_model(Checkpoint(tiny_model_folder))
    assert plain.before_answer("a") == plain.as_turn("a")


def thinks_aloud(tiny_model_folder: Path, tmp_path: Path, special: bool) -> Checkpoint:
    """A model whose tokens b and c are the markers of thinking, as text or as special tokens."""
    folder = folder_with(tiny_model_folder, tmp_path / "thinks", template=CHAT_TEMPLATE + "{# b c #}")
    if special:
        file = folder / "tokenizer.json"
        known = json.loads(file.read_text())
        known["added_tokens"] += [
            {"id": number, "content": text, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for text, number in (("b", 7), ("c", 8))
        ]
        file.write_text(json.dumps(known))
    return Checkpoint(folder)


@pytest.mark.parametrize("engine", ["memory", "hf"])
@pytest.mark.parametrize("special", [False, True], ids=["as text", "as special tokens"])
def test_a_model_that_thinks_gives_its_answer_alone(engine, special, greedy, tiny_model_folder, tmp_path):
    """Whatever it says before the last of its end markers is left out, by every engine."""
    markers = {"start": "b", "end": greedy[0].split()[1]}
    checkpoint = thinks_aloud(tiny_model_folder, tmp_path, special)
    said = Prompting(EvaluationConfig(engine={"name": engine}, thinking=markers))
    with model_of(said, checkpoint, tmp_path) as model:
        [answer] = model.generate(PROMPTS[:1], 12, chat_template=True)
    assert answer == greedy[0].rpartition(markers["end"])[2].strip()


def test_one_long_prompt_does_not_shorten_the_others_answers(tiny_model_folder: Path):
    model = load_model(Checkpoint(tiny_model_folder))
    alone = model.generate(["a b"], 40, chat_template=True)
    together = model.generate(["a b", "c " * 55], 40, chat_template=True)
    assert together[0] == alone[0]
    assert len(alone[0].split()) > 6 == len(together[1].split())  # of 64 tokens the prompt takes 58


def test_a_prompt_that_leaves_no_room_is_named_before_any_is_asked(tiny_model_folder: Path, tmp_path: Path):
    (tmp_path / "harmful.txt").write_text("a b\n" + "c " * 60 + "\n" + "c " * 61 + "\n" + "c " * 80 + "\n")
    config = EvaluationConfig(harmfulness={"prompts": str(tmp_path / "harmful.txt"), "max_new_tokens": 4})
    model = load_model(Checkpoint(tiny_model_folder), Prompting(config))
    with pytest.raises(
        DataError, match=r"harmful prompts: .*harmful.txt: row 3 \(and 1 more\) has 64 tokens, .* context is 64"
    ):
        Evaluator(config, tmp_path).ask(model)


def test_a_likelihood_that_does_not_fit_is_one_error(tiny_model_folder: Path):
    model = load_model(Checkpoint(tiny_model_folder))
    assert len(model.log_likelihoods([("a " * 60, " b c")])) == 1
    with pytest.raises(DataError, match="do not fit into the model's context of 64"):
        model.log_likelihoods([("a " * 64, " b c")])


def test_a_model_whose_answers_never_end_is_one_error(tmp_path: Path):
    tokenizer = build_tiny_tokenizer()
    tokenizer.eos_token = None
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="names a token that ends an answer"):
        end_ids(tmp_path, tokenizer)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    assert end_ids(tmp_path, tokenizer) == [2, 5]


def test_arguments_that_memory_cannot_use_are_refused():
    with pytest.raises(ValueError, match="model_args are those of an lm-eval model"):
        EvaluationConfig(engine={"model_args": {"pretrained": "{checkpoint}", "dtype": "float16"}})


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize(
    ("said", "stopped", "answer"),
    [
        ("<think> Q: c </think> a b Q: d", "<think>", "a b"),  # the task's end stands inside the thinking
        ("<think> c </think> a b Q: d", "<think> c </think> a b", "a b"),
        ("<think> c Q:", "<think> c", ""),
    ],
)
def test_the_end_that_a_task_names_counts_in_the_answer_alone(
    knows, said, stopped, answer, tiny_model_folder, monkeypatch
):
    """Of a model that thinks, whether or not its template says so."""
    model = load_model(Checkpoint(tiny_model_folder))
    if knows:
        model.tokenizer.chat_template += "{# <think></think> #}"

    def generate(_self, requests, disable_tqdm=False):
        return [stopped if request.args[1]["until"] else said for request in requests]

    monkeypatch.setattr("lm_eval.models.huggingface.HFLM.generate_until", generate)
    request = Instance("generate_until", {}, ("a", {"until": ["Q:"], "max_gen_toks": 9}), 0)
    assert model.lm.generate_until([request]) == [answer]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not readable JSON"),
        ("[]", "should hold a JSON object"),
        ('{"eos_token_id": "<eos>"}', "eos_token_id is '<eos>', expected the number of a token"),
    ],
)
def test_a_broken_generation_config_is_one_line(content, says, tiny_model_folder, tmp_path):
    folder = folder_with(tiny_model_folder, tmp_path / "model")
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=says):
        Prompting(EvaluationConfig()).departures(Checkpoint(folder))


def test_an_aligned_model_without_a_template_and_a_switch_that_does_nothing_are_told(tiny_model_folder, tmp_path):
    bare = folder_with(tiny_model_folder, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    config = EvaluationConfig(thinking={"enable": False})
    [line] = Prompting(EvaluationConfig(), Checkpoint(bare)).departures(Checkpoint(tiny_model_folder))
    assert line == "its chat template is not used, as the aligned model has none: it gets bare prompts"
    [line] = Prompting(config).departures(Checkpoint(tiny_model_folder))
    assert "knows no enable_thinking" in line
