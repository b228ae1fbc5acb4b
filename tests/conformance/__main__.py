"""Try every architecture, and write docs/architectures.md: `python -m tests.conformance [--only KIND …] [--write]`."""

import argparse
import logging
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.architectures import FIELDS, Triple, make
from conformance.checks import CHECKS
from safespan.errors import SafespanError


def cell(check: str, triple: Triple, folder: Path, verbose: bool) -> str:
    """What one check says."""
    folder.mkdir()
    try:
        return CHECKS[check](triple, folder) or "yes"
    except SafespanError as error:
        return f"refused: {error}"
    except Exception as error:
        if verbose:
            traceback.print_exc()
        kind = "wrong" if isinstance(error, AssertionError) else "fails"
        return f"**{kind}**: {type(error).__name__} {str(error).strip()[:90]}"


def main() -> None:
    """Read the options; print a row an architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(FIELDS))
    parser.add_argument("--checks", nargs="*", default=list(CHECKS))
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for kind in asked.only:
        with tempfile.TemporaryDirectory() as place:
            try:
                triple = make(kind, Path(place))
            except Exception as error:
                print(f"{kind}: cannot be made: {error}", flush=True)
                continue
            for check in asked.checks:
                told = cell(check, triple, Path(place) / check.replace(" ", "-"), asked.verbose)
                if told != "yes":
                    print(f"{kind} | {check} | {told}", flush=True)
        print(f"{kind} done", flush=True)


if __name__ == "__main__":
    main()
