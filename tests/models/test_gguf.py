"""GGUF files: a tiny Llama written with gguf's own writer, then converted and held against the model it was made of."""

import shutil
import struct
from pathlib import Path

import pytest
import torch
from gguf import GGUFEndian, GGUFWriter
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

import safespan.models.gguf
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import CheckpointError
from safespan.models.gguf import convert_gguf, describe_gguf
from safespan.models.loading import load_causal_lm
from safespan.subspaces import SpectrumCache
from tiny_gguf import TEMPLATE, write_gguf


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LlamaForCausalLM]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_gguf(path)


def test_the_weights_and_the_tokenizer_come_through(written, tmp_path, monkeypatch):
    path, expected = written
    shutil.copy(path, tmp_path / "model.gguf")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "of another model"}')
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    assert checkpoint.name == str(tmp_path / "model.gguf")
    assert checkpoint.folder.parent == tmp_path / "cache" / "gguf"
    weights = expected.state_dict()
    assert checkpoint.names == sorted(weights)
    for name in checkpoint.names:
        torch.testing.assert_close(checkpoint.load(name), weights[name], atol=1e-7, rtol=0)
    assert not hasattr(AutoConfig.from_pretrained(checkpoint.folder), "quantization_config")
    model, tokenizer = load_causal_lm(checkpoint.folder)
    assert tokenizer.chat_template == TEMPLATE
    ids = tokenizer("ab c", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["ab", "Ġc"]
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, expected(ids).logits, atol=1e-5, rtol=0)


def test_a_description_has_the_names_shapes_and_tokenizer_of_the_converted_folder(written, tmp_path):
    (tmp_path / "described").mkdir()
    shapes = describe_gguf(written[0], tmp_path / "described")
    whole = Checkpoint(convert_gguf(written[0], tmp_path))
    assert shapes == whole.shapes
    assert "quantization_config" not in (tmp_path / "described" / "config.json").read_text()
    given, converted = (AutoTokenizer.from_pretrained(place) for place in (tmp_path / "described", whole.folder))
    assert (given.get_vocab(), given.chat_template) == (converted.get_vocab(), TEMPLATE)
    assert not list((tmp_path / "described").glob("*.safetensors"))


def test_it_is_converted_once_for_its_content(written, tmp_path, monkeypatch):
    path, _ = written
    first = convert_gguf(path, tmp_path)
    monkeypatch.setattr(safespan.models.loading, "AutoModelForCausalLM", None)
    assert convert_gguf(path, tmp_path) == first
    other = tmp_path / path.name
    other.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError):
        convert_gguf(other, tmp_path)


def test_decompositions_and_converted_models_are_kept_under_one_folder(written, tmp_path, monkeypatch):
    monkeypatch.delenv("SAFESPAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    SpectrumCache().decompose(torch.eye(130))
    folder = convert_gguf(written[0])
    assert folder.parent == tmp_path / "safespan" / "gguf"
    assert [path.suffix for path in (tmp_path / "safespan").iterdir() if path.is_file()] == [".safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["safespan"]


@pytest.mark.parametrize(
    ("size", "says"),
    [(4, "header is broken"), (10, "header"), (24, "header"), (100, "header"), (1400, r"cannot be read .*\(.*\)"),
     (-1000, r"cannot be read as a GGUF model \(.*\)")],
)  # fmt: skip
def test_cut_off_files(written, size, says, tmp_path):
    path, _ = written
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=rf"cut\.gguf.*{says}"):
        convert_gguf(cut, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(struct.pack("<Q", 2**63), id="a name without an end"),
        pytest.param(struct.pack("<Q1sIIQ", 1, b"x", 9, 4, 2**40), id="a list of 2^40 numbers"),
        pytest.param(struct.pack("<Q1sI", 1, b"x", 9) + struct.pack("<IQ", 9, 2**62) * 50, id="lists in lists"),
        pytest.param(struct.pack("<Q1sI", 1, b"x", 9) + struct.pack("<IQ", 9, 1) * 10_000, id="a deep list"),
        pytest.param(struct.pack("<Q1sI", 1, b"x", 99), id="no such kind"),
    ],
)
def test_a_header_that_lies_is_refused_before_it_is_believed(entry, tmp_path, monkeypatch):
    monkeypatch.setattr(safespan.models.loading, "AutoConfig", None)
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + entry + b"\0" * 192)
    with pytest.raises(CheckpointError, match="its header is broken, or leads beyond its end"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "cache")


def test_big_endian_files_are_measured_too(tmp_path):
    write_gguf(tmp_path / "big.gguf", endianess=GGUFEndian.BIG)
    with (tmp_path / "big.gguf").open("rb") as file:
        file.seek(4)
        assert safespan.models.gguf._tensors(file, (tmp_path / "big.gguf").stat().st_size) == 21


def test_a_file_that_lacks_a_tensor(tmp_path):
    write_gguf(tmp_path / "less.gguf", without="blk.1.attn_v")
    with pytest.raises(CheckpointError, match=r"lacks model\.layers\.1\.self_attn\.v_proj\.weight \(1 tensors"):
        convert_gguf(tmp_path / "less.gguf", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_kind_of_model_that_transformers_does_not_read(tmp_path):
    writer = GGUFWriter(tmp_path / "odd.gguf", "nonsense")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="cannot be read as a GGUF model .*nonsense"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path / "cache")


def test_without_the_package(written, tmp_path, monkeypatch):
    monkeypatch.setattr(safespan.models.gguf, "is_gguf_available", lambda: False)
    with pytest.raises(CheckpointError, match=r"needs the package gguf: pip install 'safespan\[gguf\]'"):
        convert_gguf(written[0], tmp_path)


def test_files_that_are_no_gguf(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="does not begin with GGUF"):
        convert_gguf(path, tmp_path / "cache")
    path.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(CheckpointError, match="cannot be read as a GGUF model"):
        convert_gguf(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
