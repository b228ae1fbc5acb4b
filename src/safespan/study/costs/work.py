"""Amounts of work, and the shape of the models that it is done on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Shape:
    """What work depends on of a model; all models of a study have the same.

    Attributes:
        parameters: numbers of its weights.
        tensors: its weights by name.
        matrices: (outputs, inputs) of every matrix; empty where the model is not on this disk.
        stacks: the same of every layer, where matrices with as many inputs stand below one another.
        layers: decoder blocks; 0 where that is not known.
        width: of the residual stream; 0 where that is not known.
        cached: numbers that the keys and values of one token take; 0 where that is not known.
        stored: bytes of a weight in its files.
        assumed: the number of parameters comes from `size_gb`, at two bytes each.
    """

    parameters: int
    tensors: int = 0
    matrices: tuple[tuple[int, int], ...] = ()
    stacks: tuple[tuple[int, int], ...] = ()
    layers: int = 0
    width: int = 0
    cached: int = 0
    stored: int = 4
    assumed: bool = False


@dataclass(frozen=True)
class Work:
    """How much is done, at most where it depends on what models say.

    Attributes:
        opened: models that are read into memory.
        points: sets of weights that are made along a claim, or by a projection.
        swept: points whose energies alone are measured.
        controls: sets of weights that are made at random, of the energy of a claim.
        asks: sets of prompts that are put to a model.
        responses: prompts that are answered by generation.
        prompt_tokens: tokens of these prompts.
        new_tokens: tokens that are generated, if no answer ends early.
        generation_passes: forward passes of a batch while these are generated.
        likelihoods: answers whose likelihood is taken.
        scored_tokens: tokens that are read for this, and for activations.
        scoring_passes: forward passes of a batch while these are read.
        trainings: trainings.
        steps: optimizer steps.
        trained_tokens: tokens of prompts and responses that are learnt from, without padding.
        recomputed_tokens: of these, those whose activations are computed twice.
        held_steps: steps after which the update is projected.
        decompositions: matrices that are decomposed.
        decomposition_flops: p²q of all these matrices, p ≤ q.
        compared: pairs of decomposed matrices whose subspaces are compared.
        resamples: of prompts or labels, for the overlap of activations.
        probes: layers at which activations of two classes are told apart.
        judged: claims that are judged by bootstrap, each once a look and outcome.
        figures: of the report.
        judge_calls: responses that a judge with a server is asked about.
        judge_input_tokens: that it reads.
        judge_output_tokens: that it may reply.
        written: bytes that stay on the disk.
    """

    opened: int = 0
    points: int = 0
    swept: int = 0
    controls: int = 0
    asks: int = 0
    responses: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    generation_passes: int = 0
    likelihoods: int = 0
    scored_tokens: int = 0
    scoring_passes: int = 0
    trainings: int = 0
    steps: int = 0
    trained_tokens: int = 0
    recomputed_tokens: int = 0
    held_steps: int = 0
    decompositions: int = 0
    decomposition_flops: int = 0
    compared: int = 0
    resamples: int = 0
    probes: int = 0
    judged: int = 0
    figures: int = 0
    judge_calls: int = 0
    judge_input_tokens: int = 0
    judge_output_tokens: int = 0
    written: int = 0

    def __add__(self, other: "Work") -> "Work":
        """Both."""
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in FIELDS})

    def __mul__(self, times: float) -> "Work":
        """So many times as much, in whole numbers."""
        return Work(**{name: round(getattr(self, name) * times) for name in FIELDS})


FIELDS = tuple(field.name for field in fields(Work))
"""The kinds of work."""


def sum_of(parts: Sequence[Work]) -> Work:
    """All parts together."""
    total = Work()
    for part in parts:
        total = total + part
    return total


def quantities(work: Work, shape: Shape) -> Mapping[str, float]:
    """What seconds are proportional to, by the name of its rate.

    Where a kind of work has a fixed part and one that grows with the model, both have a rate.
    """
    size = shape.parameters
    return {
        "opening": work.opened,
        "opening, a parameter": work.opened * size,
        "point, a tensor": work.points * shape.tensors,
        "point, a parameter": work.points * size,
        "sweep, a tensor": work.swept * shape.tensors,
        "control, a tensor": work.controls * shape.tensors,
        "control, a parameter": work.controls * size,
        "asking": work.asks,
        "response": work.responses,
        "generation, a pass": work.generation_passes,
        "generation, a token and parameter": (work.prompt_tokens + work.new_tokens) * size,
        "likelihood": work.likelihoods,
        "scoring, a pass": work.scoring_passes,
        "scoring, a token and parameter": work.scored_tokens * size,
        "training": work.trainings,
        "training, a step": work.steps,
        # Forward and backward pass are three forward passes; the activations that are computed twice, one more.
        "training, a token and parameter": (work.trained_tokens + work.recomputed_tokens / 3) * size,
        "protection, a step and matrix": work.held_steps * len(shape.matrices),
        "decomposition": work.decompositions,
        "decomposition, an operation": work.decomposition_flops,
        "comparison": work.compared,
        "resample": work.resamples,
        "probe": work.probes,
        "judgement": work.judged,
        "figure": work.figures,
    }
