"""What is seen of a model, from the headers of its files."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from safespan.checkpoints.layout import in_block, layer_of
from safespan.checkpoints.pairs import pair_up
from safespan.checkpoints.reader import Checkpoint
from safespan.checkpoints.updates import check_same_layout
from safespan.errors import CheckpointError
from safespan.models.context import context_in_words, context_of, with_defaults, without_limit
from safespan.models.folders import has_template, weight_files


@dataclass(frozen=True)
class Inspection:
    """What is seen of one model.

    Attributes:
        model: its name.
        model_type: of its configuration.
        parameters: number of weights that count.
        tensors: their number, by form: matrices, stacks of experts, vectors.
        transposed: matrices and stacks that files store inputs × outputs.
        layers: blocks of the language model, and of towers if it has any, by kind.
        experts: in each stack, or by name in each block; 0: none.
        tied: whether the output head is the embedding.
        dtypes: dtype of the files -> number of tensors.
        tokens: rows of the embedding, or what the configuration says if it has no usual name.
        context: tokens that it has room for; None: its configuration does not say, or there is no limit.
        context_words: the same in words, with how positions are stretched, or why there is no limit.
        chat_template: whether it has one.
        gigabytes: of the weights in files, and in fp32.
        notes: what is left out or read in another way.
        refused: why its weights cannot be compared, if they cannot.
    """

    model: str
    model_type: str
    parameters: int
    tensors: dict[str, int]
    transposed: int
    layers: dict[str, int]
    experts: int
    tied: bool
    dtypes: dict[str, int]
    tokens: int | None
    context: int | None
    context_words: str
    chat_template: bool
    gigabytes: tuple[float, float]
    notes: list[str]
    refused: str


def inspect(checkpoint: Checkpoint) -> Inspection:
    """What is seen of a model."""
    shapes, config = checkpoint.shapes, checkpoint.config
    inner = config.get("text_config")
    text: dict[str, Any] = inner if isinstance(inner, dict) else config
    if not context_of(text) and not without_limit(text):
        text = with_defaults(checkpoint.folder) or text  # files may leave out what is as Transformers' defaults
    forms = Counter({1: "vectors", 2: "matrices", 3: "stacks"}[len(shape)] for shape in shapes.values())
    blocks = {layer_of(name) for name in shapes if layer_of(name).rpartition(" ")[2].isdigit()}
    parameters = sum(math.prod(shape) for shape in shapes.values())
    stored = sum(path.stat().st_size for path in weight_files(checkpoint.folder))
    try:
        checkpoint.check_numbers()
        refused = ""
    except CheckpointError as error:
        refused = str(error)
    return Inspection(
        checkpoint.name,
        str(config.get("model_type", "not known")),
        parameters,
        dict(forms),
        checkpoint.transposed,
        dict(Counter(block.rpartition(" ")[0] for block in blocks)),
        _experts(checkpoint),
        checkpoint.tied,
        checkpoint.dtypes,
        checkpoint.tokens or text.get("vocab_size"),
        context_of(text),
        context_in_words(text),
        has_template(checkpoint.folder, checkpoint.adapter),
        (stored / 1e9, 4 * parameters / 1e9),
        checkpoint.remarks,
        refused,
    )


def _experts(checkpoint: Checkpoint) -> int:
    stacks = [shape[0] for name, shape in checkpoint.shapes.items() if len(shape) == 3 and in_block(name)]
    apart = {name.partition(".experts.")[2].partition(".")[0] for name in checkpoint.shapes if ".experts." in name}
    return max([*stacks, len({number for number in apart if number.isdigit()})], default=0)


def compare(aligned: Checkpoint, *others: Checkpoint) -> list[str]:
    """What differs between an aligned model and others, and what is done about it; one line if nothing does.

    Raises:
        CheckpointError: they cannot be compared.
    """
    pair_up(aligned, *others)
    names = check_same_layout(aligned, *others)
    return aligned.notes or [f"the same {len(names)} tensors in all"]


def lines_of(seen: Inspection) -> list[str]:
    """An inspection in words."""
    tensors = ", ".join(f"{count} {form}" for form, count in sorted(seen.tensors.items()))
    layers = ", ".join(f"{count} {kind}s" for kind, count in sorted(seen.layers.items())) or "no blocks that are known"
    files, memory = seen.gigabytes
    return [
        f"{seen.model}: {seen.model_type}, {seen.parameters / 1e6:,.1f} million parameters",
        f"  {tensors}; {layers}{f', {seen.experts} experts each' if seen.experts else ''}",
        f"  stored inputs × outputs: {seen.transposed or 'none'}",
        f"  output head: {'the embedding' if seen.tied else 'its own'}; tokens: {seen.tokens or 'not known'}",
        f"  context: {seen.context_words}; chat template: {'yes' if seen.chat_template else 'none'}",
        f"  {', '.join(f'{count} × {dtype}' for dtype, count in sorted(seen.dtypes.items()))}; "
        f"{files:.2f} GB in files, {memory:.2f} GB in fp32",
        *(f"  note: {note}" for note in seen.notes),
        *([f"  refused: {seen.refused}"] if seen.refused else []),
    ]
