"""What the judges of a run have used, kept in their totals, so that a cap counts over all of its runs."""

import json
from dataclasses import dataclass
from pathlib import Path

from safespan.errors import DataError, first_line
from safespan.settings.judges import LLMConfig

TOTALS = "totals.json"
"""The file of the totals of one judge."""


@dataclass(frozen=True)
class Spent:
    """Tokens that were read and replied."""

    input_tokens: int = 0
    output_tokens: int = 0

    def cost(self, config: LLMConfig) -> float:
        """In the currency of the prices; a price that is not set counts nothing."""
        return (self.input_tokens * (config.input_price or 0) + self.output_tokens * (config.output_price or 0)) / 1e6


def spent_of(path: Path) -> Spent:
    """The tokens in a file of totals; none where there is no file.

    Raises:
        DataError: it cannot be read: to take it for nothing could pass a cap.
    """
    if not path.exists():
        return Spent()
    try:
        totals = json.loads(path.read_text(encoding="utf-8"))
        tokens = [totals["input_tokens"], totals["output_tokens"]]
        if not all(type(number) is int and number >= 0 for number in tokens):
            raise ValueError(f"its tokens are {tokens}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read ({first_line(error)}), so what the judge has cost is not known: restore it, or "
            "remove it to count the kept replies beside it again"
        ) from None
    return Spent(*tokens)


def spent_beside(folder: Path, own: Path) -> Spent:
    """The tokens of the other judges of a run, such as the same one with a longer reply, at the same prices."""
    others = [spent_of(path) for path in sorted(folder.glob(f"*/{TOTALS}")) if path.parent != own]
    return Spent(sum(one.input_tokens for one in others), sum(one.output_tokens for one in others))
