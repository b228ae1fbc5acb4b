"""The command that says what safespan finds where it runs."""

from dataclasses import asdict

from safespan.cli.app import command
from safespan.cli.output import CommandOutput

_MARKS = {"ok": "ok", "optional": "-", "fault": "FAULT"}


@command()
def doctor() -> CommandOutput:
    """Check this machine, and say what to do about what is missing. The exit code is 1 if safespan cannot run.

    Versions, hardware, folders, network, keys (only whether they are set), optional packages.
    """
    from safespan.study.doctor import examine

    checks = examine()
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.state]:<6} {check.name:<16} {check.found}")
        if check.advice:
            lines.append(f"{'':<24}{check.advice}")
    faults = [check.name for check in checks if check.state == "fault"]
    lines.append(f"safespan cannot run: {', '.join(faults)}" if faults else "safespan can run")
    values = {"runs": not faults, "checks": [asdict(check) for check in checks]}
    return CommandOutput(values, lines, [], code=1 if faults else 0)
