"""Load a checkpoint folder as a Transformers model with its tokenizer."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils import logging

from safespan.errors import CheckpointError, SafespanError, first_line
from safespan.linalg.device import device as default_device
from safespan.linalg.stacks import FUSED_EXPERTS
from safespan.models.folders import view, weight_files

PLAIN: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""No downloads, and no code of the model's own."""


def load_causal_lm(
    folder: Path, dtype: torch.dtype | str = "auto", adapter: Path | None = None, device: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a local causal language model in evaluation mode.

    Args:
        folder: config.json, safetensors weights and a tokenizer; no code from the folder is run, and no adapter that
            lies in it is applied.
        dtype: of the weights in memory; the checkpoint's own if `auto`.
        adapter: folder of a PEFT LoRA adapter, merged into the weights; a tokenizer in it is taken.
        device: where the weights go; a GPU if there is one unless given.

    Raises:
        CheckpointError: the folder is missing or is not a whole checkpoint, or the tokenizer is of another model.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; give a Hugging Face checkpoint folder")
    hide_progress_bars()
    with as_checkpoint_error(f"{folder}: cannot be loaded as a causal language model"):
        model, tokenizer = read_whole(folder, *_stored_sizes(folder), dtype, adapter)
    if adapter is not None:
        model = _merged(model, folder, adapter)
    _check_finite(model, folder)
    _keep_untied(model)
    return model.to(device or default_device()).eval(), tokenizer


def read_whole(
    folder: Path,
    tensors: int,
    weights: int,
    dtype: torch.dtype | str,
    adapter: Path | None = None,
    **source: str,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Read a model and its tokenizer, after a check that the files can hold it, before memory is allocated.

    Args:
        folder: of the files.
        tensors: their number in the files; each layer has at least one.
        weights: the largest number of weights that the files can hold.
        dtype: of the weights in memory.
        adapter: folder of an adapter, whose tokenizer is taken if it has one; its update is not added.
        source: `gguf_file`, the name of a GGUF file in the folder; else the weights are in safetensors.

    Raises:
        CheckpointError: the configuration has more layers or weights, a tensor is missing, or the tokenizer has tokens
            that the embedding lacks; Transformers raises errors of every type beside.
    """
    where = folder / source.get("gguf_file", "")
    with view(folder, adapter) as shown:
        name = f"{where}+{adapter}" if adapter else str(where)
        config, tokenizer, _ = read_without_weights(shown, name, tensors, weights, **source)
        loaded: Any = model_class(config).from_pretrained(
            shown, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **source, **PLAIN
        )
    model, loading = loaded
    model.name_or_path = model.config.name_or_path = str(folder)
    if not source and any(map(FUSED_EXPERTS.search, _stored_names(folder))):
        _save_experts_apart(model)
    # Transformers initialises missing tensors at random.
    if missing := sorted(loading["missing_keys"]):
        count = len(missing)
        raise CheckpointError(f"{where} lacks {missing[0]} ({count} tensors missing in all); copy or convert it again")
    return model, tokenizer


def read_without_weights(
    shown: Path, name: str, tensors: int, weights: int, **source: str
) -> tuple[Any, PreTrainedTokenizerBase, dict[str, tuple[int, ...]]]:
    """Read the configuration and the tokenizer of a model, and the name and shape of each of its weights.

    Args:
        shown: the folder, as `folders.view` shows it.
        name: of the model, for messages.
        tensors: as in `read_whole`, like the rest.

    Raises:
        CheckpointError: as in `read_whole`; Transformers raises errors of every type beside.
    """
    config = AutoConfig.from_pretrained(shown, **source, **PLAIN)
    shapes = _checked_shapes(config, tensors, weights, name)
    text = config.get_text_config()
    pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(rows, int) and not 0 <= pad < rows:
        text.pad_token_id = None  # an embedding cannot be made with it, and nothing else needs it
    return config, read_tokenizer(shown, name, config, **source), shapes


def model_class(config: Any) -> Any:
    """The class of Transformers that makes a model: of language models, or of those that see images beside texts."""
    kind = config.model_type
    with_images = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return AutoModelForImageTextToText if with_images else AutoModelForCausalLM


def _save_experts_apart(model: Any) -> None:
    """Have a model whose file held the experts of a block in one tensor named and saved as one of any other file.

    Transformers reverses the conversions that reading took, and that file took none.
    """
    known = [one for one in get_model_conversion_mapping(model, add_legacy=False) if not isinstance(one, PrefixChange)]
    kept = {str(one.source_patterns) for one in (*(getattr(model, "_weight_conversions", None) or ()), *known)}
    # In the order in which they are applied.
    model._weight_conversions = [one for one in get_model_conversion_mapping(model) if str(one.source_patterns) in kept]


def read_tokenizer(folder: Path, name: str, config: Any = None, **source: str) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a folder, and check that it is one of the folder's model.

    Args:
        folder: as `folders.view` shows it.
        name: of the model, for messages.
        config: the model's; read from the folder if None.
        source: as in `read_whole`.

    Raises:
        CheckpointError: it has tokens that the embedding lacks.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **source, **PLAIN)
    tokenizer.name_or_path = name
    tokenizer("a word")  # some broken tokenizers load without an error
    config = config or AutoConfig.from_pretrained(folder, **source, **PLAIN)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    words = tokenizer.get_vocab()
    count = max(words.values(), default=-1) + 1
    if rows is not None and count > rows and (beyond := _in_use(tokenizer, words, rows)):
        raise CheckpointError(
            f"{name}: its tokenizer has {count} tokens and its embedding {rows} rows, none for {beyond[0]!r} (number "
            f"{words[beyond[0]]}): give it the tokenizer that it was trained with, or resize and train its embedding"
        )
    return tokenizer


def _in_use(tokenizer: PreTrainedTokenizerBase, words: Mapping[str, int], rows: int) -> list[str]:
    """The tokens without a row that a text may hold, in their order.

    Not those that only another input has: the tokenizer of a model of text may know the place of an image. Nor the pad
    token, which another one can replace.
    """
    named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token}
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} - named
    template = str(tokenizer.chat_template)
    beyond = sorted((word for word, number in words.items() if number >= rows), key=words.__getitem__)
    held = (word for word in beyond if word != tokenizer.pad_token)
    return [word for word in held if word not in special or word in template]


def _keep_untied(model: PreTrainedModel) -> None:
    """Keep a head that was stored with numbers of its own apart, though the configuration ties it.

    Transformers reads it so, and other libraries would tie it again.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    table: Any = model.get_input_embeddings()
    if head is not None and table is not None and head.weight is not table.weight:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def _merged(model: PreTrainedModel, folder: Path, adapter: Path) -> Any:
    from peft import PeftModel

    with as_checkpoint_error(f"{adapter}: cannot be merged into {folder}"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses deprecated names of Transformers
        return PeftModel.from_pretrained(model, str(adapter), local_files_only=True).merge_and_unload()


@contextmanager
def as_checkpoint_error(what: str) -> Iterator[None]:
    """Turn any error of a library about a broken or hostile file into a CheckpointError that begins with `what`."""
    try:
        yield
    except SafespanError:
        raise
    except BaseException as error:  # broken files cause errors of every type in Transformers, and panics in Rust
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{what} ({first_line(error)[:300]})") from error


def _checked_shapes(config: Any, tensors: int, weights: int, where: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each weight that a configuration asks for, tied ones once."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if layers > tensors:
        raise CheckpointError(f"{where}: its configuration asks for {layers} layers, and it holds {tensors} tensors")
    with torch.device("meta"):
        model: Any = model_class(config).from_config(config, trust_remote_code=False)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    needed = sum(map(math.prod, shapes.values()))
    if needed > weights:
        raise CheckpointError(f"{where}: its configuration asks for {needed} weights, its files hold {weights} at most")
    return shapes


def _check_finite(model: Any, folder: Path) -> None:
    """Refuse NaN and Inf: such a model generates nonsense, which could be counted as refusals."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.itemsize > 1 and not bool(torch.isfinite(weight).all()):
            raise CheckpointError(f"{folder}: tensor {name} holds NaN or Inf; such a model cannot be evaluated")


def _stored_sizes(folder: Path) -> tuple[int, int]:
    """Number of tensors in a folder's files, and an upper bound of the weights: a byte each, a bit if quantised."""
    count = len(_stored_names(folder))
    size = sum(path.stat().st_size for path in weight_files(folder))
    quantised = "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return count, size * (16 if quantised else 2)  # tied weights count twice


def _stored_names(folder: Path) -> list[str]:
    names: list[str] = []
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names


def hide_progress_bars() -> None:
    """Hide the progress bars of Transformers, beside safespan's own."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
