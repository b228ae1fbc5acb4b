"""The costs of a study in words."""

from datetime import datetime, timedelta

from safespan.study.costs.estimate import Estimate, Span
from safespan.study.costs.work import Work


def cost_lines(costs: Estimate, now: datetime) -> list[str]:
    """Time, disk, memory, work, tokens, judge and money, a line each."""
    work = costs.most
    seeds = f"costs of each of {costs.seeds} seeds:" if costs.seeds > 1 else "costs:"
    return [
        seeds,
        f"time: {_time(costs, now)}",
        f"disk: {_disk(costs)}",
        f"memory: {_memory(costs)}",
        f"models and points: models are loaded {_span(costs, 'opened')} times; weights are changed "
        f"{_both(costs.least.points + costs.least.controls, work.points + work.controls)} times, "
        "in the tests anew for each part of the prompts",
        *([f"prompts: a test asks at most {costs.prompts:,} of each kind"] if costs.prompts else []),
        f"training: {_span(costs, 'trainings')} trainings, {_span(costs, 'steps')} steps, "
        f"{_span(costs, 'trained_tokens')} tokens",
        f"generation: {_span(costs, 'responses')} responses, {_span(costs, 'prompt_tokens')} tokens of prompts, "
        f"at most {_span(costs, 'new_tokens')} new tokens",
        f"likelihoods: of {_span(costs, 'likelihoods')} answers; {_span(costs, 'scored_tokens')} tokens are read for "
        "them and for activations",
        f"judge: {_judge(costs, work)}",
        f"money: {_money(costs)}",
        *([f"not counted: {'; '.join(costs.unknown)}"] if costs.unknown else []),
    ]


_OF_PROMPTS = {"prompt_tokens": "responses", "scored_tokens": "scoring_passes", "trained_tokens": "steps"}
"""Tokens -> the work that they belong to: where that is done and they are zero, they are not known."""


def _span(costs: Estimate, field: str) -> str:
    least, most = getattr(costs.least, field), getattr(costs.most, field)
    is_unknown = field in _OF_PROMPTS and not most and getattr(costs.most, _OF_PROMPTS[field])
    return "an unknown number of" if is_unknown else _both(least, most)


def _both(least: int, most: int) -> str:
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _time(costs: Estimate, now: datetime) -> str:
    if costs.rates is None:
        return "unknown on this machine: run safespan calibrate once, it takes about a minute"
    if (span := costs.time) is None:
        return "unknown: the size of the models is not known; give size_gb of the models, or put them on this disk"
    end = now + timedelta(seconds=span.likely * costs.seeds)
    day = f" on {end:%d %B}" if end.date() != now.date() else ""
    every = ", all seeds one after another" if costs.seeds > 1 else ""
    told = f"{_spread(span)}{every}; if it starts now, it ends at about {end:%H:%M}{day}"
    if costs.workers > 1:
        told += f"; with {costs.workers} processes"
    if costs.is_far:
        told += (
            "; only the order of magnitude is known, as this machine was measured with models of up to "
            f"{costs.rates.parameters[1]:,} parameters"
        )
    return f"{told}{'; what is not counted (below) comes on top' if costs.unknown else ''}"


def _spread(span: Span) -> str:
    about = f"about {duration(span.likely)}"
    if span.most < 1.05 * span.least:
        return about
    least, most = duration(span.least), duration(span.most)
    return f"{about} ({least} if every claim is decided at the first look, {most} if none is decided early)"


def duration(seconds: float) -> str:
    """Seconds in words of one unit."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    whole = max(1, round(seconds))
    return f"{whole} second{'s' * (whole > 1)}"


def _disk(costs: Estimate) -> str:
    room = costs.room
    downloads = "downloads of unknown size" if room.downloads is None else f"{size(room.downloads)} of downloads"
    if costs.shape is None:
        parts = [f"unknown: the size of the models is not known; all other files take at most {size(room.written)}"]
    else:
        parts = [f"at most {size(room.written)} stay in the run folder", f"{size(room.beside)} more while it runs"]
    return ", ".join([*parts, *([downloads] if room.downloads != 0 else [])])


def _memory(costs: Estimate) -> str:
    room = costs.room
    if room.memory is None:
        return "unknown: the size of the models is not known"
    where = "on the GPU" if room.gpu else f"in {costs.workers} process{'es' * (costs.workers > 1)}"
    return f"about {size(room.memory)} at the peak, {where}; the activations of a batch come on top"


def _judge(costs: Estimate, work: Work) -> str:
    if costs.judge is None:
        return "no judge that costs money"
    return (
        f"at most {work.judge_calls:,} calls of {costs.judge.model}, with {work.judge_input_tokens:,} input tokens and "
        f"{work.judge_output_tokens:,} output tokens, if a token has 4 characters"
    )


def _money(costs: Estimate) -> str:
    if costs.judge is None:
        return "none"
    if costs.money is None:
        return "unknown: set input_price and output_price of evaluation.harmfulness.judge, per million tokens"
    cap = costs.judge.max_cost
    run, every = ("the run of each seed", f" for all {costs.seeds} seeds") if costs.seeds > 1 else ("the run", "")
    stop = f"; {run} stops before it passes max_cost = {cap:,.2f}" if cap is not None else ""
    return f"at most {costs.money * costs.seeds:,.2f}{every}, in the currency of the judge's prices{stop}"


def size(count: float) -> str:
    """Bytes in words."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
