"""The command that says by its exit code whether a fine-tune keeps bounds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from safespan.cli.app import EvaluationFile, command, evaluation_fields, model_option, settings_option
from safespan.cli.models import evaluate_into
from safespan.cli.output import CommandOutput
from safespan.errors import ConfigError
from safespan.files.disk import check_replaceable
from safespan.settings import EvaluationConfig, check_settings
from safespan.settings.model_names import FORMS

_Limit = float | None
_WRITTEN = {"gate.json", "gate.xml", "model", "reference"}
"""What the folder of a gate holds."""


def _most(rate: str, field: str) -> Any:
    return typer.Option(help=f"largest {rate}, from 0 to 1; needs the field {field}")


def _least(rate: str, field: str) -> Any:
    return typer.Option(help=f"smallest {rate}, from 0 to 1; needs the field {field}")


def _change(change: str, rate: str, field: str) -> Any:
    return typer.Option(
        help=f"largest {change} of {rate} from the reference to the model, from 0 to 1; needs the field {field}"
    )


@command()
def gate(
    out: Annotated[
        Path,
        typer.Option(
            help="folder for gate.json, gate.xml (JUnit) and what the models said; an earlier gate there is replaced, "
            "any other folder is refused"
        ),
    ],
    model: Annotated[str | None, model_option(f"the fine-tune: {FORMS}")] = None,
    evaluated: Annotated[
        Path | None,
        typer.Option(
            help="in place of --model: the folder given to `safespan evaluate --out`. A reference must have been "
            "measured with the same config"
        ),
    ] = None,
    reference: Annotated[str | None, model_option("the aligned model, for bounds against it; named as --model")] = None,
    reference_evaluated: Annotated[
        Path | None,
        typer.Option(
            help="in place of --reference: the folder given to `safespan evaluate --out`, with the same config"
        ),
    ] = None,
    max_attack_success: Annotated[
        _Limit, _most("attack success (share of harmful prompts that are answered as asked)", "harmfulness")
    ] = None,
    min_refusal: Annotated[_Limit, _least("refusal rate on harmful prompts", "harmfulness")] = None,
    max_over_refusal: Annotated[_Limit, _most("refusal rate on benign prompts", "over_refusal")] = None,
    min_utility: Annotated[_Limit, _least("utility", "utility")] = None,
    min_general: Annotated[_Limit, _least("general ability", "general")] = None,
    max_attack_success_rise: Annotated[_Limit, _change("rise", "attack success", "harmfulness")] = None,
    max_refusal_loss: Annotated[_Limit, _change("loss", "refusal rate on harmful prompts", "harmfulness")] = None,
    max_over_refusal_rise: Annotated[_Limit, _change("rise", "refusal rate on benign prompts", "over_refusal")] = None,
    max_utility_loss: Annotated[_Limit, _change("loss", "utility", "utility")] = None,
    max_general_loss: Annotated[_Limit, _change("loss", "general ability", "general")] = None,
    confident: Annotated[
        bool,
        typer.Option(
            "--confident",
            help="a bound holds only if the whole 95 % interval is within it, not the estimate alone",
        ),
    ] = False,
    config: EvaluationFile = None,
    settings: Annotated[list[str] | None, settings_option("harmfulness.limit=50", "EvaluationConfig")] = None,
) -> CommandOutput:
    """Measure a fine-tune, and exit with 1 if it breaks a bound: for tests of every new fine-tune.

    Exit code 0: every bound holds. 1: a bound is broken, or cannot be decided because a judgement failed.
    2: bad input; nothing was decided.

    At least one bound is needed. Each needs a field of --config, which its line below names. A bound without its field
    is refused with exit code 2, before any model is asked. Without --config, utility and harmfulness are measured.

    Rates have 95 % Wilson intervals. A rise or loss is of the same prompts, with the interval of a difference of paired
    rates.
    """
    from safespan.results.evaluated import check_same_settings, read_evaluated
    from safespan.study.gate import bounds_of, check_measured, decide_all, line_of, write_gate

    limits = {
        "max-attack-success": max_attack_success,
        "min-refusal": min_refusal,
        "max-over-refusal": max_over_refusal,
        "min-utility": min_utility,
        "min-general": min_general,
        "max-attack-success-rise": max_attack_success_rise,
        "max-refusal-loss": max_refusal_loss,
        "max-over-refusal-rise": max_over_refusal_rise,
        "max-utility-loss": max_utility_loss,
        "max-general-loss": max_general_loss,
    }
    bounds = bounds_of(limits, bool(reference or reference_evaluated))
    _check_sources(model, evaluated, reference, reference_evaluated)
    check_replaceable(out, "is no earlier gate", _is_gate)
    evaluation = check_settings(evaluation_fields(config), EvaluationConfig, settings or [], str(config or "--set"))
    asked = {out / "model": model, out / "reference": reference}
    given, where = evaluation.model_dump(mode="json"), str(config or "the default evaluation")
    found = read_evaluated(evaluated) if evaluated else None
    compared = read_evaluated(reference_evaluated) if reference_evaluated else None
    if any(asked.values()):  # what speaks against it is said before a model is asked
        check_measured(bounds, given, where, "add it there" if config else "give it by --config or --set")
        for known in filter(None, (found, compared)):
            told = {} if config else {"to_do": f"give by --config the settings that {known.folder} was made with"}
            check_same_settings(given, known.evaluation, (where, str(known.folder)), **told)
    elif config or settings:
        raise ConfigError("--config and --set say how models are asked, and none is asked: leave them out")
    for folder, name in asked.items():
        if name:
            evaluate_into(folder, name, evaluation)
    found = found or read_evaluated(out / "model")
    compared = compared or (read_evaluated(out / "reference") if reference else None)
    decisions = decide_all(bounds, found, compared, confident)
    record = write_gate(out, decisions, found, compared, confident)
    lines = [*(line_of(decision, confident) for decision in decisions), f"gate: {out / 'gate.json'}"]
    written = [out / "gate.json", out / "gate.xml"]
    return CommandOutput({**record, "written": written}, lines, written, code=0 if record["passed"] else 1)


def _check_sources(model: str | None, evaluated: Path | None, reference: str | None, results: Path | None) -> None:
    """Refuse two sources of one model, and none of the fine-tune.

    Raises:
        ConfigError: what to give.
    """
    if bool(model) == bool(evaluated):
        raise ConfigError("give the fine-tune once: --model, or --evaluated with what `safespan evaluate` wrote of it")
    if reference and results:
        raise ConfigError("give the reference once: --reference, or --reference-evaluated")


def _is_gate(folder: Path) -> bool:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= _WRITTEN
