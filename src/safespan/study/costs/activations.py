"""The work of experiment 4, and of the activations that claims are made from."""

from collections.abc import Mapping

from safespan.data import read_prompts
from safespan.data.hub import NotCachedError, offline
from safespan.settings import PromptSource
from safespan.settings.presets import PUBLISHED_ROWS
from safespan.study.costs.prepared import Prepared
from safespan.study.costs.work import Work
from safespan.study.needs import needs_base_activations

_CENTRINGS = 2
"""Raw, and centred."""


def overlap_work(prepared: Prepared, counts: Mapping[str, int | None]) -> tuple[Work, tuple[str, ...]]:
    """Experiment 4, and what is not counted of it."""
    settings, shape = prepared.config.activations, prepared.shape
    assert settings is not None
    asked, unknown = _asked(prepared, counts)
    if shape is None or not shape.layers:
        return asked[0] * len(settings.models), (*unknown, "the layers of the models, which are not on this disk")
    from safespan.activations.by_layer import layers_in_depth_range

    layers = len(layers_in_depth_range(shape.layers, settings.layers)) if settings.layers else shape.layers
    overlaps = layers * _CENTRINGS
    prompts = asked[1]
    pairs = [prompts, *([(prompts[0] // 2,) * 2, (prompts[1] // 2,) * 2] if settings.halves else [])]
    flops = sum(min(n, shape.width) ** 2 * max(n, shape.width) for pair in pairs for n in pair)
    one = asked[0] + Work(
        opened=1,
        decompositions=overlaps * 2 * len(pairs),
        decomposition_flops=overlaps * flops,
        resamples=overlaps * (settings.permutations + settings.bootstraps),
        probes=layers,
    )
    return one * len(settings.models), unknown


def captured_work(prepared: Prepared, counts: Mapping[str, int | None]) -> tuple[Work, tuple[str, ...]]:
    """The activations of aligned for claims, with the scores of the refusal directions; what is not counted of it."""
    shape = prepared.shape
    (asked, prompts), unknown = _asked(prepared, counts)
    layers = shape.layers if shape else 0
    from safespan.activations.refusal import VALIDATION_PROMPTS
    from safespan.subspaces.hypotheses.refusal_direction import early_layers

    # At most: as if no prompt were left out. Harmful prompts are asked again with each candidate ablated, useful ones
    # also with it added, and once with none.
    useful, harmful = (min(VALIDATION_PROMPTS, number // 2) for number in prompts)
    candidates = len(early_layers(layers))
    again = (harmful * candidates + useful * (2 * candidates + 1)) / max(1, sum(prompts))
    # All prompts are read once for their activations and once for the refusals.
    work = asked * (2 + needs_base_activations(prepared.config) + again)
    kept = 4 * sum(prompts) * (sum(columns for _, columns in shape.matrices) + 2 * layers * shape.width) if shape else 0
    return work + Work(opened=1, written=kept), unknown


def _asked(
    prepared: Prepared, counts: Mapping[str, int | None]
) -> tuple[tuple[Work, tuple[int, int]], tuple[str, ...]]:
    """The prompts of both classes read by one model, how many they are, and what is not known of them."""
    settings = prepared.config.activations
    assert settings is not None
    total, numbers, unknown = Work(), [], dict[str, None]()
    for kind in ("useful", "harmful"):
        source: PromptSource = getattr(settings, kind)
        number = counts.get(f"activations.{kind}") or source.rows or PUBLISHED_ROWS.get(source.name)
        lengths = _lengths(prepared, source)
        if lengths is None:
            unknown["tokens of prompts for activations"] = None
        number = number if lengths is None else len(lengths)
        if number is None:
            unknown[f"how many {kind} prompts for activations"] = None
        numbers.append(number or 0)
        passes = -(-(number or 0) // settings.batch_size)
        total += Work(scored_tokens=sum(lengths or ()), scoring_passes=passes)
    return (total, (numbers[0], numbers[1])), tuple(unknown)


def _lengths(prepared: Prepared, source: PromptSource) -> list[int] | None:
    """Tokens of each prompt; None where prompts or tokenizer are not on this disk."""
    settings = prepared.config.activations
    if prepared.aligned is None or settings is None:
        return None
    from safespan.activations.capture import encode
    from safespan.evaluation import tokenizer_of

    try:
        with offline(source):
            texts = [prompt.prompt for prompt in read_prompts(source)]
    except NotCachedError:
        return None
    rows = encode(tokenizer_of(prepared.aligned), texts, chat_template=True, day=settings.template_date)
    return [len(row) for row in rows]
