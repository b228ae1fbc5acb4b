"""The fenced blocks of the documentation, and what the text before each says of it."""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)]

_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
_FILE = re.compile(r"`([^`\s]+\.(?:py|toml|yaml))`:$")


@dataclass(frozen=True)
class Snippet:
    """One fenced block.

    Attributes:
        page: the file it stands in, from the root of the repository.
        line: of the file, from 1.
        kind: its language, or `text` where it has none.
        text: what it holds.
        not_run: why it is not run, from the comment `<!-- not run: REASON -->` right before it; empty if it is.
        file: the file it is, where the paragraph right before it ends in "`FILE`:"; empty if it is none.
    """

    page: str
    line: int
    kind: str
    text: str
    not_run: str
    file: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines that are typed, of a `console` block; continued ones are put together."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:].partition("  #")[0].strip() for line in joined.splitlines() if line.startswith("$ ")]


def snippets(page: Path) -> list[Snippet]:
    """All fenced blocks of a page, in order."""
    blocks, reason, file = [], "", ""
    body = re.sub(r"\A---\n.*?\n---\n", lambda front: "\n" * front[0].count("\n"), page.read_text(), flags=re.DOTALL)
    for token in MarkdownIt("commonmark").parse(body):
        if token.type == "html_block":
            reason = "".join(_NOT_RUN.findall(token.content))
        elif token.type == "inline":
            named = _FILE.search(token.content)
            reason, file = "", named[1] if named else ""
        elif token.type == "fence":
            kind = token.info.replace("{code-cell}", "").strip() or "text"
            name = str(page.relative_to(ROOT))
            file = "" if kind == "console" else file
            blocks.append(Snippet(name, token.map[0] + 1, kind, token.content, reason, file))
            reason = file = ""
    return blocks


def inline_commands(page: Path) -> list[str]:
    """What stands in `backticks` in the prose and begins with safespan."""
    codes = (
        child.content
        for token in MarkdownIt("commonmark").enable("table").parse(page.read_text())
        for child in token.children or ()
        if child.type == "code_inline"
    )
    return [code for code in codes if code.startswith("safespan ")]


EVERY = [snippet for page in PAGES for snippet in snippets(page)]
