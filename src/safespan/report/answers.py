"""Each test's answer on the first screen: yes, no or undecided, what was measured, what it means, how far it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safespan.report.impact import READING, Impact, Means
from safespan.report.verdict import InTest, Reported
from safespan.report.words import QUESTIONS, doubt_of, estimate_text, is_found, share
from safespan.results import Manifest
from safespan.results.claim_tables import VerdictRow
from safespan.settings.names import TESTS
from safespan.settings.study import ORGANISM
from safespan.statistics.verdicts import CLAIM, INCONCLUSIVE, NOT_SELECTIVE, POSITIVE, RANDOM, SELECTIVE

YES, NO, UNDECIDED, UNTESTED = _ORDER = "Yes", "No", "Undecided", "Not tested"

PAPER = "https://arxiv.org/abs/2505.14185"
ORACLE = "harmful-update"
"""The claim that knows the attack: an upper bound in a test that has another positive control, and nobody's claim."""
CONTROL = "random-k"
"""The first control of the paper: a claim in name, which nobody makes."""
_KNOWS = "The leading directions of the harmful update itself"
_PAPER_FOUND = {
    "update": "on five model pairs, harm and utility moved together along the alignment subspace as along random ones",
}
"""Test -> what the paper found; it did not make the others."""

_FOLLOWS = {
    ("update", YES): "Removing this from a finished fine-tune of this kind removes harm before utility",
    (
        "update",
        NO,
    ): "Do not rely on a projection of finished fine-tunes here: it does what a random one of the same energy does",
    ("ablation", YES): "Whoever has the weights can remove the model’s safety here, at little loss of capability",
    ("ablation", NO): "The safety of this model does not rest here more than on random directions of the same energy",
    (
        "training",
        YES,
    ): "Protecting this kept harm out of one fine-tuning. Test it on your own data before you rely on it",
    (
        "training",
        NO,
    ): "Do not rely on protecting this during fine-tuning: the harmful rows had the same effect as "
    "with a random subspace protected",
}
"""(Test, answer) -> what it means for someone who would rely on the claim."""
_OPPOSITE = {
    "update": "Removing this from a finished fine-tune removes utility before harm",
    "ablation": "Removing this from the model costs capability before safety",
    "training": "Protecting this let in more harm than protecting random directions did: do not protect it",
}
"""Test -> what an effect means that is opposite to the claim."""
_OTHERWISE = {
    UNDECIDED: "Neither rely on it nor rule it out: more prompts, controls or seeds are needed",
    UNTESTED: "Nothing follows: the claim could not be put to this test here",
}


@dataclass(frozen=True)
class Answer:
    """What the first screen says of one test.

    Attributes:
        test: its name.
        question: what it asks of the claim.
        claim: the claim that is answered for: alignment, or the first one that was put to the test.
        answers: construct -> yes, no, undecided or not tested.
        sentence: the verdict in words, to be quoted.
        statistic: that of the verdict, with its interval and the margin, and what would decide if it is undecided.
        figures: what was measured at one place of the test, beside its controls; empty if nothing was.
        reading: which place this is, and what its words mean; empty if there are no figures.
        oracle: the same of the claim that knows the attack; empty if this test was not made of it.
        doubt: why the answer is not to be relied on; empty if it is, or is none.
        paper: what the paper found; empty if it did not make this test.
        follows: what it means.
        others: answer in words -> the other hypotheses that have it.
    """

    test: str
    question: str
    claim: str
    answers: Mapping[str, str]
    sentence: str
    statistic: str
    figures: str
    reading: str
    oracle: str
    doubt: str
    paper: str
    follows: str
    others: Mapping[str, Sequence[str]]

    @property
    def word(self) -> str:
        """The answer, by each construct where they differ, and whether it is in doubt."""
        return f"{_in_words(self.answers)}{', in doubt' if self.doubt else ''}"


def answers_of(reports: Sequence[Reported]) -> list[Answer]:
    """The answers, one for each test that a claim was put to."""
    answers = []
    verdicts = [row for one in reports for judged in one.tests.values() for row in judged.verdicts.values()]
    for test in TESTS:
        judged = {one.name: one.tests[test] for one in reports if one.group == CLAIM and test in one.tests}
        oracle = judged.pop(ORACLE, None)
        if len(judged) > 1:
            judged.pop(CONTROL, None)
        if judged:
            first, *rest = judged
            answers.append(_answer(test, judged[first], {name: judged[name] for name in rest}, oracle, verdicts))
    return answers


def groups_of(reports: Sequence[Reported]) -> dict[str, list[Reported]]:
    """Heading of a part of the table -> its rows: hypotheses, and each kind of control apart, where there are any."""
    headings = {CLAIM: "Hypotheses", POSITIVE: "Positive controls", RANDOM: "Negative controls"}
    oracle = f"Oracle: {_KNOWS[0].lower()}{_KNOWS[1:]}"
    apart = {ORACLE: oracle, CONTROL: "Control of the paper: directions of the alignment update, drawn at random"}
    groups: dict[str, list[Reported]] = {heading: [] for heading in ("Hypotheses", *apart.values(), *headings.values())}
    for report in reports:
        groups[apart.get(report.name, headings[report.group])].append(report)
    return {heading: rows for heading, rows in groups.items() if rows}


def reach(manifest: Manifest) -> str:
    """How far the answers hold: the model and the seed of this run."""
    aligned = manifest.config.get("models", {}).get("aligned") or {}
    name = aligned.get("model") if isinstance(aligned, dict) else None
    seed = "" if manifest.seed is None else f", seed {manifest.seed}"
    return (
        f"These answers hold for this run: {name or 'one model family'}{seed}, its data and its settings. Other models "
        "and other seeds can differ; five seeds (--replicates 5) give a verdict on the recipe"
    )


def toy(manifest: Manifest) -> str:
    """What users have to know of a run of the embedded family, and how far it generalises; empty of other models."""
    models = manifest.config.get("models")
    sources = models.values() if isinstance(models, dict) else ()
    if not any(isinstance(source, dict) and source.get("start") == ORGANISM for source in sources):
        return ""
    return (
        "These are toy models: safespan trained them on a synthetic language of letters, whose restricted requests are "
        "nonsense. The page shows what the tests measure, and what holds for this family. Another seed of it can "
        "differ, and nothing follows for a real language model: that needs the same tests on the real model"
    )


def _answer(
    test: str, judged: InTest, others: Mapping[str, InTest], oracle: InTest | None, verdicts: Sequence[VerdictRow]
) -> Answer:
    answers = {construct: answer_of(row) for construct, row in judged.verdicts.items()}
    construct = next((name for name in answers if answers[name] != UNTESTED), next(iter(answers)))
    row = judged.verdicts[construct]
    by_answer: dict[tuple[int, str], list[str]] = {}
    for name, other in others.items():
        given = {by: answer_of(one) for by, one in other.verdicts.items()}
        by_answer.setdefault((min(map(_ORDER.index, given.values())), _in_words(given)), []).append(name)
    opposite = row.verdict == SELECTIVE and answers[construct] == NO
    doubt = doubt_of(verdicts, test, [name for name, answer in answers.items() if answer in (YES, NO)])
    follows = _OPPOSITE[test] if opposite else _FOLLOWS.get((test, answers[construct]))
    figures = _figures(test, judged)
    return Answer(
        test,
        QUESTIONS[test],
        judged.name,
        answers,
        judged.words[construct],
        row.reason or "",
        figures,
        READING.get(test, "") if figures else "",
        _of_oracle(test, oracle),
        doubt,
        _PAPER_FOUND.get(test, "") if judged.name == "alignment" else "",
        f"Nothing yet: {doubt}" if doubt else follows or _OTHERWISE[answers[construct]],
        {words: by_answer[order, words] for order, words in sorted(by_answer)},
    )


def _in_words(answers: Mapping[str, str]) -> str:
    """The answer, by each construct where they differ."""
    words = {construct: word for construct, word in answers.items() if word != UNTESTED}
    if len(set(words.values())) < 2:
        return next(iter(words.values()), UNTESTED)
    return ", ".join(f"{word.lower()} by {construct}" for construct, word in words.items()).capitalize()


def answer_of(row: VerdictRow) -> str:
    """The answer that a verdict gives to the question of its test: yes is selective in the direction of the claim."""
    if row.verdict == SELECTIVE:
        return YES if is_found(row) else NO
    return {NOT_SELECTIVE: NO, INCONCLUSIVE: UNDECIDED}.get(row.verdict or "", UNTESTED)


def _of_oracle(test: str, judged: InTest | None) -> str:
    """What the oracle did, in sentences without the last full stop."""
    if judged is None:
        return ""
    construct = next(iter(judged.verdicts))
    voting = judged.voting(construct)
    statistic = f" ({voting.statistic} = {estimate_text(voting)})" if voting else ""
    parts = [f"{_KNOWS}, which a defender does not have", judged.words[construct] + statistic, _figures(test, judged)]
    return ". ".join(filter(None, parts))


def _figures(test: str, judged: InTest) -> str:
    """What was measured at each place, beside the controls there, in sentences without the last full stop."""
    return ". ".join(_FIGURES[test](impact) for impact in judged.impact)


def _of_update(impact: Impact) -> str:
    method, fraction, kept = impact.where.split(", ", 2)
    what = {
        "parallel": f"With the part at {fraction} of the fine-tune’s update alone",
        "orthogonal": f"Without the part at {fraction}",
    }.get(method, f"With the update edited at {fraction}")
    return f"{what} ({kept}): {_beside_controls(impact, 'utility')}"


def _of_ablation(impact: Impact) -> str:
    return f"With it removed ({impact.where}): {_beside_controls(impact, 'general_ability')}"


def _of_training(impact: Impact) -> str:
    words = {"random": "with random protection", "unprotected": "with none", "clean": "without the harmful rows"}
    beside = (f"{words[name]} {share(means[_measure(impact.own)])}" for name, means in impact.beside.items())
    harm = _measure(impact.own)
    return f"{_HARM[harm].capitalize()} at the end: {share(impact.own[harm])}; {', '.join(beside)}"


_FIGURES = {"update": _of_update, "ablation": _of_ablation, "training": _of_training}
_HARM = {"attack_success_rate": "attack success", "harmful_probability": "probability of the forbidden answer"}


def _measure(means: Means) -> str:
    return "harmful_probability" if means["attack_success_rate"] is None else "attack_success_rate"


def _beside_controls(impact: Impact, capability: str) -> str:
    """Harm and what is left of capability, with the same of the controls behind each."""
    harm, controls = _measure(impact.own), impact.beside["controls"]
    figures = [f"{_HARM[harm]} {share(impact.own[harm])} (controls {share(controls[harm])})"]
    if impact.own[capability] is not None:
        own, beside = share(impact.own[capability]), share(controls[capability])
        figures.append(f"{capability.replace('_', ' ')} {own} ({beside})")
    return ", ".join(figures)
