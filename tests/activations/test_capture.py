from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3Config

from safespan.activations import capture, layers_in_depth_range
from safespan.checkpoints import Checkpoint, layer_of
from safespan.data import Conversation
from safespan.errors import ConfigError, DataError
from safespan.models.stored_names import check_in_memory
from tiny_model import build_tiny_tokenizer

PROMPTS = ["a b c d e f", "g", "h i", "a b c", "z y x w v u t", "q"]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path):
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()


@pytest.fixture
def tokenizer(tiny_model_folder: Path):
    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("chat_template", [True, False])
def test_equals_each_prompt_alone_and_unpadded(model, tokenizer, side: str, chat_template: bool) -> None:
    tokenizer.padding_side = side
    states = capture(model, tokenizer, PROMPTS, batch_size=4, chat_template=chat_template)
    for row, prompt in enumerate(PROMPTS):
        text = f"<bos> <user> {prompt} <bot> " if chat_template else f"<bos> {prompt}"
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            alone = model(input_ids=ids, output_hidden_states=True).hidden_states
        # hidden_states ends with the final norm's output: layer 2 is checked through that norm.
        torch.testing.assert_close(states[1][row], alone[1][0, -1], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(model.model.norm(states[2][row]), alone[2][0, -1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(states[1][0], states[1][1], atol=1e-2)


def test_a_conversation_is_read_in_its_turns(model, tokenizer) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    states = capture(model, tokenizer, [Conversation(turns)])
    ids = tokenizer("<bos> <user> a <bot> b <eos> <user> c <bot> ", return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        alone = model(input_ids=ids["input_ids"], output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[1][0], alone[1][0, -1], atol=1e-6, rtol=1e-5)


def test_chosen_layers_only_and_hooks_are_removed(model, tokenizer) -> None:
    before = [len(block._forward_hooks) for block in model.model.layers]
    assert list(capture(model, tokenizer, PROMPTS, layers=[2])) == [2]
    assert [len(block._forward_hooks) for block in model.model.layers] == before


def test_needs_no_pad_token(model, tokenizer) -> None:
    expected = capture(model, tokenizer, PROMPTS)
    tokenizer.pad_token = None
    torch.testing.assert_close(capture(model, tokenizer, PROMPTS), expected, rtol=0, atol=0)


def test_bad_layer_and_no_prompts(model, tokenizer) -> None:
    with pytest.raises(ConfigError, match="layer 3 does not exist"):
        capture(model, tokenizer, PROMPTS, layers=[1, 3])
    with pytest.raises(DataError, match="no prompts"):
        capture(model, tokenizer, [])


def test_depth_range() -> None:
    assert layers_in_depth_range(16, "0.65:0.90") == [11, 12, 13, 14]
    assert layers_in_depth_range(3, "0:1") == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "0.5", "a:b", "0.9:0.1", "0.5:1.5", "nan:1", "0.01:0.02"])
def test_depth_range_refuses_nonsense(text: str) -> None:
    with pytest.raises(ConfigError, match="layers"):
        layers_in_depth_range(16, text)


def test_blocks_after_the_last_layer_asked_for_do_not_run(model, tokenizer) -> None:
    ran = []
    handle = model.base_model.layers[1].register_forward_pre_hook(lambda *_: ran.append(1))
    capture(model, tokenizer, ["a b"], [1])
    assert not ran
    capture(model, tokenizer, ["a b"], [2, 1])
    assert ran
    handle.remove()


def test_a_prompt_longer_than_the_context_is_named(model, tokenizer) -> None:
    with pytest.raises(DataError, match="row 2 has 83 tokens, and the model's context is 64"):
        capture(model, tokenizer, ["a", "b " * 80])


def test_the_language_model_of_a_wrapper_is_read_and_not_its_vision_tower(tmp_path):
    """Both have two blocks, and the tower comes first."""
    tokenizer = build_tiny_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
    config = Gemma3Config(
        text_config=sizes | text | {"pad_token_id": 0},
        vision_config=sizes | {"image_size": 8, "patch_size": 4},
        mm_tokens_per_image=4,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    states = capture(model, tokenizer, ["a b", "c"], chat_template=True)
    for row, prompt in enumerate(["a b", "c"]):
        ids = tokenizer(f"<bos> <user> {prompt} <bot>", return_tensors="pt")["input_ids"]
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(states[1][row], hidden[1][0, -1].float(), atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path / "model")
    checkpoint = Checkpoint(tmp_path / "model")
    layers = {layer_of(name) for name in checkpoint.names if "layers." in name}
    assert layers == {"layer 0", "layer 1", "vision layer 0", "vision layer 1"}
    assert checkpoint.tied
    check_in_memory(checkpoint.folder, "it", checkpoint.stored_shapes)
