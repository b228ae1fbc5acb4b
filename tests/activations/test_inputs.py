"""What hypotheses read of activations, against one plain forward pass a prompt."""

import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny_model
from conformance.architectures import make
from safespan.activations import capture, capture_for_hypotheses
from safespan.activations import inputs as module
from safespan.activations.capture import encode
from safespan.activations.refusal import refusal_candidates
from safespan.checkpoints import Checkpoint
from safespan.errors import DataError
from safespan.models.loading import load_causal_lm
from safespan.subspaces import CapturedActivations
from safespan.subspaces.hypotheses.refusal_direction import remark_on
from tiny_model import save_tiny_model

PROMPTS = {"useful": ["a b c d e f", "g", "h i", "a b c"], "harmful": ["z y x w v u t", "q", "r s"]}


@pytest.fixture(params=["left", "right"])
def side(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Batches are padded on this side."""

    def load(*args: object, **kwargs: object) -> object:
        model, tokenizer = load_causal_lm(*args, **kwargs)
        tokenizer.padding_side = request.param
        return model, tokenizer

    monkeypatch.setattr(module, "load_causal_lm", load)
    return request.param


def alone(folder: Path, prompt: str, token: int = -1) -> dict[str, torch.Tensor]:
    """What every linear layer is given, and each block puts out, at a token of one unpadded prompt."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    states: dict[str, torch.Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: object, given: tuple[torch.Tensor, ...], output: object) -> None:
            if name in states:
                return
            hidden = output[0] if isinstance(output, tuple) else output
            states[name] = (given[0] if name.endswith(".weight") else hidden)[0, token].clone()

        return hook

    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear):
            part.register_forward_hook(keep(f"{name}.weight"))
    for number, block in enumerate(model.model.layers, 1):
        block.register_forward_hook(keep(str(number)))
    ids = tokenizer(f"<bos> <user> {prompt} <bot> ", return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model(input_ids=ids)
    return states


def test_equals_each_prompt_alone_and_unpadded(tiny_model_folder: Path, tmp_path: Path, side: str) -> None:
    capture_for_hypotheses(Checkpoint(tiny_model_folder), PROMPTS, tmp_path / "out", batch_size=3)
    captured = CapturedActivations(tmp_path / "out")
    weights = [name for name in load_file(tiny_model_folder / "model.safetensors") if name.endswith("_proj.weight")]
    assert len(weights) == 14
    for kind, prompts in PROMPTS.items():
        stream = captured.residual_stream(kind)
        assert list(stream) == [1, 2]
        for row, prompt in enumerate(prompts):
            expected = alone(tiny_model_folder, prompt)
            for name in weights:
                given = captured.inputs(kind, name)
                assert given is not None
                assert len(given) == len(prompts)
                torch.testing.assert_close(given[row], expected[name], atol=1e-5, rtol=1e-5)
            for layer, rows in stream.items():
                torch.testing.assert_close(rows[row], expected[str(layer)], atol=1e-5, rtol=1e-5)
        assert captured.inputs(kind, "model.embed_tokens.weight") is None


def test_the_stream_where_the_instruction_ends_is_that_of_the_token_before_the_models_turn(
    tiny_model_folder: Path, tmp_path: Path, side: str
) -> None:
    capture_for_hypotheses(Checkpoint(tiny_model_folder), PROMPTS, tmp_path / "out", batch_size=3)
    captured = CapturedActivations(tmp_path / "out")
    for kind, prompts in PROMPTS.items():
        for row, prompt in enumerate(prompts):
            expected = alone(tiny_model_folder, prompt, token=-2)
            for layer in (1, 2):
                rows = captured.instruction_after(kind, layer)
                assert rows is not None
                torch.testing.assert_close(rows[row], expected[str(layer)], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(
                    captured.residual_after(kind, layer), captured.residual_stream(kind)[layer], atol=0, rtol=0
                )


def test_base_is_captured_on_the_same_tokens_where_it_is_given(
    tiny_model_folder: Path, tmp_path: Path, side: str
) -> None:
    base = save_tiny_model(tmp_path / "base", seed=7)
    (base / "chat_template.jinja").write_text("no tokens of this template")  # the aligned model's counts
    aligned = Checkpoint(tiny_model_folder)
    capture_for_hypotheses(aligned, PROMPTS, tmp_path / "plain", batch_size=3)
    capture_for_hypotheses(aligned, PROMPTS, tmp_path / "both", batch_size=3, base=Checkpoint(base))
    plain, both = load_file(tmp_path / "plain"), load_file(tmp_path / "both")
    assert all(torch.equal(both[name], rows) for name, rows in plain.items())
    assert {name for name in both if name not in plain} == {f"base/{kind}/{ly}" for kind in PROMPTS for ly in (1, 2)}
    (base / "chat_template.jinja").unlink()
    for kind, prompts in PROMPTS.items():
        for row, prompt in enumerate(prompts):
            expected = alone(base, prompt)
            for layer in (1, 2):
                found = CapturedActivations(tmp_path / "both").base_after(kind, layer)[row]
                torch.testing.assert_close(found, expected[str(layer)], atol=1e-5, rtol=1e-5)


def test_a_base_that_lacks_a_token_of_the_prompts_is_refused(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model, "WORDS", tiny_model.WORDS[:20])  # up to n
    base = save_tiny_model(tmp_path / "base")
    with pytest.raises(DataError, match=r"base \(.*\) has 20 tokens, and the harmful prompts have token"):
        capture_for_hypotheses(Checkpoint(tiny_model_folder), PROMPTS, tmp_path / "out", base=Checkpoint(base))
    assert not (tmp_path / "out").exists()


def test_the_residual_stream_is_that_of_capture(tiny_model_folder: Path, tmp_path: Path, side: str) -> None:
    capture_for_hypotheses(Checkpoint(tiny_model_folder), PROMPTS, tmp_path / "out")
    model, tokenizer = load_causal_lm(tiny_model_folder)
    for kind, prompts in PROMPTS.items():
        states = CapturedActivations(tmp_path / "out").residual_stream(kind)
        torch.testing.assert_close(states, capture(model, tokenizer, prompts), atol=1e-5, rtol=1e-5)


LETTERS = list(string.ascii_lowercase)
MANY = {"useful": LETTERS, "harmful": [f"{first} {second}" for first in LETTERS[::3] for second in LETTERS[::5]]}
OPENINGS = LETTERS[13:]
"""The model begins with one of these after some prompts of both kinds."""


def test_candidates_for_the_refusal_direction_are_beside_them(
    tiny_model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    capture_for_hypotheses(Checkpoint(tiny_model_folder), MANY, tmp_path / "out", refusals=OPENINGS)
    captured = CapturedActivations(tmp_path / "out")
    model, tokenizer = load_causal_lm(tiny_model_folder)
    encoded = {kind: encode(tokenizer, texts, True) for kind, texts in MANY.items()}
    streams = {kind: captured.residual_stream(kind) for kind in MANY}
    tokens = tokenizer.convert_tokens_to_ids(OPENINGS)
    expected, found = refusal_candidates(model, encoded, streams, tokens), captured.refusal_candidates()
    assert list(found) == list(expected) == [1]
    assert torch.equal(found[1].direction, expected[1].direction)
    for score in ("bypass", "induce", "divergence"):
        assert getattr(found[1], score) == getattr(expected[1], score)
    assert caplog.messages == []  # a claim that takes this direction says so
    assert "no layer is within" in remark_on(found)


def test_a_model_that_refuses_no_prompt_has_no_candidate(tiny_model_folder: Path, tmp_path: Path) -> None:
    capture_for_hypotheses(Checkpoint(tiny_model_folder), PROMPTS, tmp_path / "out", refusals=["cannot"])
    assert CapturedActivations(tmp_path / "out").refusal_candidates() == {}


def test_no_prompts_of_a_kind_leave_no_file(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prompts"):
        capture_for_hypotheses(Checkpoint(tiny_model_folder), PROMPTS | {"harmful": []}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_matrices_without_inputs_are_told_with_their_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two prompts give their last tokens to at most four experts of the eight of two blocks, at two each."""
    for kind, told in (("llama", False), ("mixtral", True)):
        caplog.clear()
        prompts = {"useful": ["a b", "c"], "harmful": ["d", "e f"]}
        capture_for_hypotheses(Checkpoint(make(kind, tmp_path).aligned), prompts, tmp_path / f"{kind}.safetensors")
        assert ("of the blocks' weights have no inputs" in caplog.text) is told
