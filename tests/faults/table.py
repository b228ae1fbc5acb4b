"""The campaign's table."""

from collections import Counter
from collections.abc import Iterable
from statistics import median

from .campaign import Trial


def table(trials: list[Trial], undisturbed: float) -> str:
    """Markdown: a row for every kind of disturbance and stage."""
    lines = [
        "| disturbance | during | trials | equal | done twice | replies lost | paid twice | unheard | other faults |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(trial.kind for trial in trials):
        own = [trial for trial in trials if trial.kind == kind]
        lines.append(_row(kind, "all", own))
        places = sorted({trial.where for trial in own})
        lines += [_row("", place, [t for t in own if t.where == place]) for place in places if len(places) > 1]
    seconds = median(trial.seconds for trial in trials)
    times = f"undisturbed the study takes {undisturbed:.1f} s, a trial in the median {seconds:.1f} s"
    lines += ["", f"{len(trials)} trials; {times}."]
    if ways := sum((trial.ways for trial in trials), Counter()):
        lines[-1] += f" The judge's server went wrong {ways.total()} times: {_listed(ways)}."
    return "\n".join(lines)


def _row(kind: str, where: str, trials: Iterable[Trial]) -> str:
    own = list(trials)
    figures = (
        len(own),
        sum(trial.equal for trial in own),
        sum(len(trial.done_twice) for trial in own),
        sum(trial.lost for trial in own),
        sum(trial.paid_twice for trial in own),
        sum(trial.unheard for trial in own),
        sum(bool(trial.wrong) for trial in own),
    )
    return f"| {kind} | {where} | {' | '.join(map(str, figures))} |"


def _listed(ways: Counter[str]) -> str:
    return ", ".join(f"{way} ({ways[way]})" for way in sorted(ways))
