from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BertConfig, BertForSequenceClassification

from safespan.errors import CheckpointError, ConfigError
from safespan.evaluation.judges import Exchange, make_judge
from safespan.settings.judges import ClassifierConfig
from tiny_adapter import make_stray
from tiny_model import CHAT_TEMPLATE, build_tiny_tokenizer, save_tiny_model

ASKED = [Exchange("a b", "c"), Exchange("d", "e f g h i j"), Exchange("k l m", ""), Exchange("n", "i cannot help")]


def judge(config: ClassifierConfig, tmp_path: Path, asked=ASKED):
    return make_judge(config, tmp_path).judge(asked)


def harm_alone(folder: Path, texts: list[str], special: bool) -> list[float]:
    """Probability of the word x against y as the next word, each text on its own and without padding."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64), build_tiny_tokenizer()
    x, y = tokenizer.convert_tokens_to_ids(["x", "y"])
    shares = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=special)["input_ids"]
        logits = model(ids).logits[0, -1].detach()
        shares.append(float(torch.sigmoid(logits[x] - logits[y])))
    return shares


@pytest.mark.parametrize("template", [None, "<bos> {response} <user> {prompt} {braces} <bot>"])
def test_a_causal_classifier_is_read_at_its_next_word(tiny_model_folder, tmp_path, template) -> None:
    config = ClassifierConfig(
        model=str(tiny_model_folder), template=template, suffix=" q", harmful="x", harmless="y", batch_size=3
    )
    texts = [
        f"<bos> {asked.response} <user> {asked.prompt} {{braces}} <bot> q"
        if template
        else f"<bos> <user> {asked.prompt} <bot> {asked.response} <eos> q"
        for asked in ASKED
    ]
    harm = harm_alone(tiny_model_folder, texts, special=template is not None)
    judged = judge(config, tmp_path)
    assert [f"x with probability {value:.3f}" for value in harm] == [judgement.reason for judgement in judged]
    expected = [5 if value > 0.5 else 2 - (asked is ASKED[3]) for value, asked in zip(harm, ASKED, strict=True)]
    assert [judgement.score for judgement in judged] == expected
    assert [judgement.refused for judgement in judged] == [score == 1 for score in expected]
    assert len({value > 0.5 for value in harm}) == 2, "both classes occur"


def test_a_sequence_classifier_gives_the_probability_of_its_label(tmp_path) -> None:
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=1.0,
        id2label={0: "fine", 1: "HARM"},
        label2id={"fine": 0, "HARM": 1},
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "adapter_config.json").write_text('{"peft_type": "LORA"}')  # not applied
    asked = [*ASKED, Exchange("o " * 40, "p")]
    judged = judge(
        ClassifierConfig(model=str(tmp_path / "bert"), template="{prompt} <bot> {response}", harmful="harm"),
        tmp_path,
        asked,
    )
    for exchange, judgement in zip(ASKED, judged, strict=False):
        ids = tokenizer(f"{exchange.prompt} <bot> {exchange.response}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            harm = float(model(ids).logits.softmax(-1)[0, 1])
        assert judgement.reason == f"harm with probability {harm:.3f}"
    assert (judged[-1].score, judged[-1].error) == (None, "42 tokens, over the classifier's context of 32")
    with pytest.raises(ConfigError, match="no label 'unsafe'; it has fine, HARM"):
        judge(ClassifierConfig(model=str(tmp_path / "bert"), template="{prompt} {response}"), tmp_path)
    get_peft_model(model, LoraConfig(r=1, target_modules=["query"])).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match="merge the adapter of a sequence classifier"):
        judge(
            ClassifierConfig(model=f"{tmp_path / 'bert'}+{tmp_path / 'adapter'}", template="{prompt} {response}"),
            tmp_path,
        )


def test_a_classifier_with_an_adapter_is_the_one_with_it_merged(tiny_model_folder, tmp_path) -> None:
    stray, merged = make_stray(tiny_model_folder, tmp_path)
    names = (merged, stray, f"{tiny_model_folder}+{tmp_path / 'adapter'}", tiny_model_folder)
    expected, *same, other = (
        [
            judgement.reason
            for judgement in judge(ClassifierConfig(model=str(name), harmful="x", harmless="y"), tmp_path)
        ]
        for name in names
    )
    assert same == [expected, expected]
    assert other != expected


def test_what_a_classifier_cannot_be_asked(tiny_model_folder, tmp_path) -> None:
    with pytest.raises(ConfigError, match="begin with the same token"):
        judge(ClassifierConfig(model=str(tiny_model_folder), harmful="a b", harmless="a c"), tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint at nowhere"):
        judge(ClassifierConfig(model="nowhere"), tmp_path)
    with pytest.raises(ValueError, match="with {prompt} and {response}"):
        ClassifierConfig(model="m", template="{prompt} only")
    folder = save_tiny_model(tmp_path / "bare")
    for path in (folder / "chat_template.jinja", folder / "tokenizer_config.json"):
        text = path.read_text() if path.exists() else ""
        assert path.name != "chat_template.jinja" or text == CHAT_TEMPLATE
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template; set `template`"):
        judge(ClassifierConfig(model=str(folder), harmful="a", harmless="b"), tmp_path)
