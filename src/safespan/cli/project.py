"""The command that applies a claim to a fine-tune and writes the result."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safespan.cli.analysis import (
    Seed,
    SideOption,
    VocabularyOption,
    decomposition,
    open_family,
    read_texts,
    warn_of_remarks,
)
from safespan.cli.app import Aligned, NoCache, PromptFields, command, model_option, prompt_files
from safespan.cli.output import CommandOutput
from safespan.errors import ConfigError
from safespan.files.disk import check_replaceable
from safespan.progress import step
from safespan.settings.data import FILES
from safespan.settings.names import (
    ABLATION,
    EDIT,
    METHODS,
    SIDES,
    Side,
    Test,
    check_choices,
    check_shares,
    hypothesis_names,
)
from safespan.settings.verdict import REFUSALS

if TYPE_CHECKING:
    from safespan.projection import ClaimPoint, Family, Written

_FINETUNE = "finetuned"
"""The name of the fine-tune among the models of the family."""
_OF_FACTORS = "safemerge-factors"
"""The claim that is about adapters alone."""


@command()
def project(
    aligned: Aligned,
    out: Annotated[
        Path,
        typer.Option(
            help="folder to write the model to; an earlier result of this command is replaced, any other is refused"
        ),
    ],
    hypothesis: Annotated[str, typer.Option(help="a claim, as `safespan hypotheses` lists it")] = "alignment",
    finetuned: Annotated[
        str | None, model_option("the fine-tune whose update is changed; leave it out to change the aligned model")
    ] = None,
    base: Annotated[
        str | None, model_option("the model before alignment, for claims about the alignment update")
    ] = None,
    safe: Annotated[str | None, model_option("safety-tuned model, for claims that need it")] = None,
    harmful: Annotated[str | None, model_option("fine-tune on harmful data, for claims that need it")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="what is done; the first three are for subspaces.\n\n"
            "parallel: only the part of the update inside the subspace is kept.\n\n"
            "orthogonal: only the part outside is kept (default with --finetuned).\n\n"
            "opposite: minus the part inside is added to the aligned model, in place of the update.\n\n"
            "edit: the update is changed as the claim says (default and only method of defences such as safelora).\n\n"
            "ablation: the subspace is removed from the aligned model (default without --finetuned)",
            show_default="by the claim, as above",
        ),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(
            help="f in (0, 1]: share of the directions or of the matrices, or the strength of what is added",
            show_default="1 of what is added, else 0.25",
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help=f"useful=FILE and harmful=FILE, for claims about activations; each {FILES}"),
    ] = None,
    prompt_field: PromptFields = None,
    refusal: Annotated[
        list[str] | None,
        typer.Option(
            help="how refusals begin, for claims about refusals; repeatable", show_default=", ".join(REFUSALS)
        ),
    ] = None,
    side: SideOption = "output",
    seed: Seed = 0,
    full: Annotated[
        bool, typer.Option("--full", help="write a full checkpoint where an adapter would do as well")
    ] = False,
    no_cache: NoCache = False,
    vocabulary: VocabularyOption = "shared",
) -> CommandOutput:
    """Apply a claimed defence (such as safelora) to a fine-tune, or remove a subspace, and write the resulting model.

    The weights are those of the claim's update test, or of its ablation test. The tokenizer and a record of how the
    model was made are written too. If --finetuned is MODEL+ADAPTER, where MODEL is the aligned model,
    an adapter is written where the rank allows it; otherwise a checkpoint that transformers loads.
    """
    check_choices("claim", [hypothesis], hypothesis_names())
    check_choices("method", [method] if method else [], (*METHODS, EDIT, ABLATION))
    checked_side = _side(side)
    check_shares("--fraction", [fraction] if fraction is not None else [])
    check_replaceable(out, "was not written by this command", lambda folder: (folder / "safespan.json").exists())
    files = _prompt_files(prompts, prompt_field, refusal)
    from safespan.projection import claim_point, write_claimed

    given = {"base": base, "safe": safe, "harmful": harmful, "prompts": prompts}
    present = [need for need, value in given.items() if value]
    point = claim_point(hypothesis, method, fraction, checked_side, seed, present, finetuned is not None)
    texts = _texts(point, files)
    tuned = {name: model for name, model in ((_FINETUNE, finetuned), ("harmful", harmful)) if model}
    family = open_family(base, aligned, safe, tuned, vocabulary)
    _check_adapters(family, point)
    _check_roles(family, point)
    about = {"refusals": refusal or REFUSALS, "prompts": files} if texts else {}
    finetune = _FINETUNE if finetuned else None
    with _captured(family, point, texts, refusal, out) as whole, step("projection"):
        warn_of_remarks(whole, [point.hypothesis])
        written = write_claimed(whole, point, finetune, out, decomposition(not no_cache), full, about)
    if not written.changed:
        logging.getLogger(__name__).warning(
            f"{hypothesis} changes no matrix at f = {point.fraction:g}: what is written is the "
            f"{_changed_model(point)} itself"
        )
    values = {**asdict(point), **asdict(written), "adapter": written.rank is not None, "written": out}
    return CommandOutput(values, _lines(written, point, aligned, out), [out])


def _side(given: str) -> Side:
    check_choices("side", [given], SIDES)
    return "input" if given == "input" else "both" if given == "both" else "output"


def _prompt_files(
    prompts: list[str] | None, fields: list[str] | None, refusal: list[str] | None
) -> dict[str, dict[str, str]]:
    if prompts:
        return prompt_files(prompts, fields)
    for option, value in (("--prompt-field", fields), ("--refusal", refusal)):
        if value:
            raise ConfigError(f"{option} belongs to --prompts: give --prompts too")
    return {}


def _texts(point: "ClaimPoint", files: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """The prompts of each class, read."""
    if not files:
        return {}
    from safespan.subspaces import find_hypothesis

    if "prompts" not in find_hypothesis(point.hypothesis).needs:
        raise ConfigError(f"hypothesis {point.hypothesis!r} reads no prompts: leave --prompts out")
    return read_texts(files)


def _check_roles(family: "Family", point: "ClaimPoint") -> None:
    """Warn of models in the wrong roles, and refuse those that are aligned itself where their difference is needed."""
    from safespan.checkpoints.roles import check_roles
    from safespan.subspaces import find_hypothesis

    ends = {**family.finetuned, **({"safe": family.safe} if family.safe else {})}
    test: Test = "ablation" if point.method == ABLATION else "update"
    with step("roles"):
        check_roles(family.base, family.aligned, ends, find_hypothesis(point.hypothesis).needs_of(test))


def _check_adapters(family: "Family", point: "ClaimPoint") -> None:
    """Refuse full fine-tunes for a claim about the factors of adapters: it would leave every matrix as it is.

    Raises:
        ConfigError: which option names no adapter.
    """
    given = {"--finetuned": family.finetuned.get(_FINETUNE), "--safe": family.safe}
    full = [option for option, model in given.items() if model is not None and model.adapter is None]
    if point.hypothesis == _OF_FACTORS and full:
        raise ConfigError(
            f"{_OF_FACTORS} merges the factors of two adapters, and {' and '.join(full)} has none: give MODEL+ADAPTER "
            "for both, or take safemerge"
        )


@contextmanager
def _captured(
    family: "Family", point: "ClaimPoint", texts: dict[str, list[str]], refusal: list[str] | None, out: Path
) -> Iterator["Family"]:
    """The family with the aligned model's activations on the prompts, in a file that is removed on leaving."""
    if not texts:
        yield family
        return
    from safespan.activations import capture_for_hypotheses
    from safespan.files.scratch import scratch_folder
    from safespan.subspaces import CapturedActivations, find_hypothesis

    claim = find_hypothesis(point.hypothesis)
    with scratch_folder(out.absolute().parent, f"{out.name}.activations") as scratch:
        captured = CapturedActivations(scratch / "activations.safetensors")
        base = family.base if claim.reads_base else None
        with step("activations"):
            capture_for_hypotheses(family.aligned, texts, captured.path, refusals=refusal or REFUSALS, base=base)
        yield replace(family, captured=captured)


def _changed_model(point: "ClaimPoint") -> str:
    return "aligned model" if point.method == ABLATION else "fine-tune"


def _error(rounding: float) -> str:
    """How exactly the update is written, in words."""
    if rounding != rounding:
        return "no update is left"
    if round(rounding, 2) >= 1:
        return "the update is not larger than the rounding of its number format"
    return f"rounding error {rounding:.2g} of the update"


def _lines(written: "Written", point: "ClaimPoint", aligned: str, out: Path) -> list[str]:
    error = _error(written.rounding_error)
    of = _changed_model(point)
    lines = [
        f"{point.hypothesis}, method {point.method}, f = {point.fraction:g}: changes {written.changed} of "
        f"{written.matrices} matrices of the {of}"
    ]
    if written.rank is not None:
        return [*lines, f"adapter: {out}, rank {written.rank} ({error}); name the model {aligned}+{out}"]
    return [*lines, f"checkpoint: {out} ({error}); full, and no adapter: {written.why_full}"]
