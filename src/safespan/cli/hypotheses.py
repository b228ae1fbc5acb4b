"""The command that lists the claims."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Annotated

import typer

from safespan.cli.app import command
from safespan.cli.output import CommandOutput
from safespan.settings.names import NAMED_ONLY, SYMBOLS, Test, hypothesis_names

_LEGEND = """\
tests: update: the claim's part of a finished update is kept or removed, or the update is edited as the claim says.
    ablation: the claim's directions are removed from the aligned model.
    training: the aligned model is fine-tuned on contaminated data, with the claim protected.
authors' test: those of the three that the paper's authors made.
after: the authors made none of the three. The claim follows their paper, or is safespan's own.
needs: --aligned always. base, safe, harmful: the models of --base, --safe and --harmful. prompts: --prompts
    useful=FILE and --prompts harmful=FILE. The update test needs a fine-tune too; the training test needs --training.
control, oracle: for comparison, and no claim about safety. What a test finds of them is known or expected.
planted: true only of models made by safespan, whose harmful training was kept inside a known subspace. It checks the
    tests themselves (studies/planted.yaml)."""
"""The words of the list, in plain ones."""


def _legend() -> list[str]:
    update = "update: what fine-tuning adds to the weights. Its size squared is its energy."
    named = f"tested by a study only if it names them: {', '.join(NAMED_ONLY)}"
    return ["Legend", update, *_wrapped(SYMBOLS), *_LEGEND.splitlines(), *_wrapped(named)]


def _wrapped(text: str) -> list[str]:
    return wrap(text, 118, subsequent_indent="    ", break_on_hyphens=False)


@command()
def hypotheses(
    names: Annotated[list[str] | None, typer.Argument(help="list only these claims", show_default="all")] = None,
) -> CommandOutput:
    """List the claims about where safety lies: claim, paper, the authors' test, the tests here, and the needs.

    A legend follows the list.
    """
    from safespan.subspaces import find_hypothesis

    values, lines = {}, list[str]()
    for name in dict.fromkeys(names or hypothesis_names()):
        found = find_hypothesis(name)
        tests, made = (", ".join(names) for names in (found.tests, found.authors_tests))
        needs = {test: sorted(found.needs_of(test)) for test in found.tests}
        values[name] = {
            "claim": found.claim,
            "paper": found.paper,
            "after": not made,
            "kind": found.kind,
            "authors_tests": found.authors_tests,
            "tests": found.tests,
            "needs": sorted(found.needs),
            "needs_by_test": needs,
        }
        lines += [
            f"{name}: {found.claim}",
            f"    {'' if made else 'after '}{found.paper}; authors' test: {made or 'none of the three'}; "
            f"tests here: {tests}; needs: {_needs_in_words(needs)}",
        ]
    return CommandOutput({"hypotheses": values}, [*lines, "", *_legend()], [])


def _needs_in_words(needs: Mapping[Test, list[str]]) -> str:
    """The needs of each test; once where they are the same, else with the tests behind them."""
    words = {"task": "the fine-tune that is tested"}
    groups: dict[str, list[Test]] = {}
    for test, inputs in needs.items():
        groups.setdefault(" and ".join(words.get(one, one) for one in inputs) or "the aligned model alone", []).append(
            test
        )
    if len(groups) == 1:
        return next(iter(groups))
    return ", ".join(f"{inputs} ({', '.join(tests)})" for inputs, tests in groups.items())
