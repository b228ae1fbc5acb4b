"""A study file from a few answers, with a comment at each part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from safespan.data import Prompt, read_prompts
from safespan.data.hub import is_data_set
from safespan.errors import ConfigError, DataError
from safespan.settings import PromptSource, StudyConfig, VerdictConfig, check_settings
from safespan.settings.evaluation import UTILITY_PRESETS
from safespan.settings.model_names import FORMS
from safespan.settings.names import FINETUNES

Budget = Literal["quick", "full"]

BUDGETS: dict[Budget, str] = {
    "quick": "100 prompts and questions of each kind, 2 fractions of the grid, 4 claims and their controls at 3 "
    "fractions with 50 prompts, and training in 100 steps: a verdict is more often inconclusive",
    "full": "all prompts and questions, the grid of arXiv 2505.14185, every claim that the models allow at 6 "
    "fractions with 100 prompts, and training for an epoch",
}
"""What each budget means."""

_CLAIMS = ["alignment", "safelora", "lox", "refusal-direction"]
_ASKED, _MEASURED, _STEPS = 100, 50, 100
_SAME_PROMPTS = "give other prompts than the models are asked, or a claim made of them is tested on what it was made of"


@dataclass(frozen=True)
class Draft:
    """The answers that a study file is made of.

    Attributes:
        base: the model before alignment.
        aligned: the aligned model.
        finetuned: role -> fine-tune of it, or the safety-tuned model.
        useful: fields of the source of useful prompts.
        harmful: of the harmful prompts that the models are asked.
        claims: of the harmful prompts that claims are made from; None: the same.
        benign: of benign prompts that look harmful; None: over-refusal is not measured.
        utility: an lm-eval task, a preset or a task's YAML file.
        training: fields of the sources of useful and of harmful rows, for the training test; None: without it.
        budget: how much is asked.
    """

    base: str
    aligned: str
    finetuned: Mapping[str, str]
    useful: dict[str, Any]
    harmful: dict[str, Any]
    claims: dict[str, Any] | None
    benign: dict[str, Any] | None
    utility: str
    training: tuple[dict[str, Any], dict[str, Any]] | None
    budget: Budget

    @property
    def quick(self) -> bool:
        """Whether little is asked."""
        return self.budget == "quick"

    @property
    def harmful_prompts_of_claims(self) -> dict[str, Any]:
        """The harmful prompts that claims are made from."""
        return self.claims or self.harmful


def check_draft(draft: Draft) -> None:
    """Refuse what the study could not use, of files that are on this disk.

    Raises:
        ConfigError: a role is given twice over, or there is none to test.
        DataError: prompts that cannot be read, or harmful ones without the answers that a verdict needs.
    """
    if not set(FINETUNES) & set(draft.finetuned):
        raise ConfigError(f"no fine-tune is given: give at least one of {', '.join(FINETUNES)}")
    if draft.training and "contaminated" in draft.finetuned:
        raise ConfigError("rows for the training test and a contaminated fine-tune both give that model: leave one out")
    for source in (draft.useful, draft.harmful_prompts_of_claims, draft.benign):
        if source:
            _local_prompts(source)
    needed = _MEASURED if draft.quick else VerdictConfig().prompts
    for number, prompt in enumerate(_local_prompts(draft.harmful)[:needed], start=1):
        if prompt.target is None:
            raise DataError(
                f"{draft.harmful['file']}: a verdict needs the forbidden answers, and prompt {number} has none in "
                f"{draft.harmful.get('target_field', 'target')!r}: name the right field (--target-field), or add it"
            )


def draft_text(draft: Draft) -> str:
    """The study file.

    Raises:
        ConfigError: the answers make no study; says which field is wrong.
    """
    text = "\n".join(_lines(draft)) + "\n"
    check_settings(yaml.safe_load(text), StudyConfig, (), "the study")
    return text


def _local_prompts(source: dict[str, Any]) -> list[Prompt]:
    """The prompts of a file on this disk; none of another source."""
    read = PromptSource.model_validate(source)
    return [] if is_data_set(read) else read_prompts(read)


def _lines(draft: Draft) -> Iterator[str]:
    yield "# A study for `safespan run`; with --dry-run that says what it would do, and checks the data."
    yield "# Names of files are as seen from the folder that safespan is run in. All fields: docs/reference/config.md."
    yield f"# Budget {draft.budget}: {BUDGETS[draft.budget]}."
    yield f"name: {_flow(f'Safety subspaces of {draft.aligned}')}"
    yield "seed: 0  # of training, data and random controls"
    yield ""
    yield from _models(draft)
    yield ""
    yield from _evaluation(draft)
    yield ""
    yield from _experiments(draft)
    yield ""
    yield from _verdict(draft)


def _models(draft: Draft) -> Iterator[str]:
    yield f"# The models by role: each is {FORMS}."
    yield "models:"
    yield f"  base: {{model: {_flow(draft.base)}}}  # before alignment; aligned − base is the alignment update"
    yield f"  aligned: {{model: {_flow(draft.aligned)}}}  # the model that claims of safety are about"
    meanings = {
        "useful": "tuned on a skill",
        "harmful": "tuned on something harmful",
        "contaminated": "tuned on a skill and something harmful",
        "finetuned": "a fine-tune of any kind",
        "safe": "tuned for safety, for claims that need it",
    }
    for role, model in draft.finetuned.items():
        yield f"  {role}: {{model: {_flow(model)}}}  # {meanings[role]}"
    if draft.training:
        rows, harmful = draft.training
        yield "  contaminated:  # trained here; the training test trains it again with each claim protected"
        yield "    start: aligned"
        yield "    train:"
        yield f"      data: {_flow(rows)}"
        yield f"      contaminate_with: {_flow(harmful)}  # 20 % as many rows (contamination_percent)"
        yield "      learning_rate: 1.0e-5  # that of arXiv 2505.14185; small models need more"
        if draft.quick:
            yield f"      max_steps: {_STEPS}  # leave out for an epoch"


def _evaluation(draft: Draft) -> Iterator[str]:
    limit = {"limit": _ASKED} if draft.quick else {}
    utility = {"preset" if draft.utility in UTILITY_PRESETS else "task": draft.utility, **limit}
    harm = {"prompts": draft.harmful, **limit, "judge": {"kind": "rules"}}
    yield "# What every model is asked: a task for utility, harmful prompts, and benign ones that look harmful."
    yield "evaluation:"
    yield f"  utility: {_flow(utility)}"
    yield "  # The rules are crude: for figures that are published take an LLM or a classifier (docs/howto/judge.md)."
    yield f"  harmfulness: {_flow(harm)}"
    if draft.benign:
        yield f"  over_refusal: {_flow({'prompts': draft.benign, **limit})}"


def _experiments(draft: Draft) -> Iterator[str]:
    models = ["base", "aligned", *draft.finetuned]
    fewer = {"permutations": 50, "bootstraps": 50} if draft.quick else {}
    yield "# Experiments 1 and 2: keep or remove the part of each update that lies in a subspace, and ask again."
    yield f"projection: {_flow({'fractions': [0.25, 0.75]} if draft.quick else {})}"
    yield "# Experiment 3: do the updates occupy the same subspaces of the weights?"
    yield f"overlap: {_flow({'granularities': ['layer']} if draft.quick else {})}"
    yield "# Experiment 4: do useful and harmful prompts occupy the same activations? Claims are made from them too."
    if draft.claims is None:
        yield f"# Harmful: {_SAME_PROMPTS}."
    yield "activations:"
    yield f"  useful: {_flow(draft.useful)}"
    yield f"  harmful: {_flow(draft.harmful_prompts_of_claims)}"
    yield f"  models: {_flow(models)}"
    for name, number in fewer.items():
        yield f"  {name}: {number}"


def _verdict(draft: Draft) -> Iterator[str]:
    yield "# The verdict on claimed safety subspaces, against random controls (`safespan hypotheses` lists claims)."
    yield "# update: project a finished update; ablation: take the subspace out of the aligned model;"
    yield "# training: protect it while the contaminated model is trained."
    if draft.training:
        yield "# With a contaminated model, update is of that model; the other fine-tunes stand in experiments 1 to 4."
    yield "verdict:"
    yield f"  tests: {_flow(['update', 'ablation', *(['training'] if draft.training else [])])}"
    if draft.quick:
        oracle = ["harmful-update"] if "harmful" in draft.finetuned else []
        yield f"  hypotheses: {_flow([*_CLAIMS, 'random', *oracle])}  # leave out for all that the models allow"
        yield "  fractions: [0.1, 0.5, 1.0]"
        yield f"  prompts: {_MEASURED}"
    if draft.training:
        fewer = {"controls": 3, "points": 2} if draft.quick else {}
        yield f"  training: {_flow({'hypotheses': ['alignment'], **fewer})}  # each claim has its own training"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)[1:-2]
