"""Tables that a campaign puts into a document."""

from pathlib import Path

RELIABILITY = Path(__file__).parents[1] / "docs" / "reliability.md"

END = "<!-- end -->"


def begin(command: str) -> str:
    """The mark before what a command makes."""
    return f"<!-- made by {command} -->"


def put_into(page: Path, command: str, made: str) -> None:
    """Put what a command made between its marks.

    Raises:
        ValueError: the page has no such marks.
    """
    before, mark, rest = page.read_text(encoding="utf-8").partition(begin(command))
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{page} has no place for what {command} makes")
    page.write_text(f"{before}{mark}\n\n{made}\n\n{end}{after}", encoding="utf-8")
