"""The figures that a page repeats from another page: they must be those of that page."""

import re

import pytest
from snippets import ROOT

DOCS = ROOT / "docs"
FOUND = DOCS / "found.md"
VERDICTS = re.compile(r"not selective|selective|inconclusive|too small to test|not measurable")
_SOURCES = re.compile(r"<!-- figures\n(.*?)-->", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,/])-?\d[\d,]*(?:\.\d+)?(?:e-\d+)?(?![\w/])")
_WITH_INTERVAL = re.compile(_NUMBER.pattern + r"(?: \[[^\]]+\])?")
_NO_PROSE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"\]\(([\w/-]+\.md)")


def figures(text: str, pattern: re.Pattern[str] = _WITH_INTERVAL) -> set[str]:
    """The numbers of a text, outside code, links and comments. A plus sign or a comma at the end does not count."""
    plain = " ".join(re.sub(r"\+(?=\d)", "", _NO_PROSE.sub("", text).replace("−", "-")).split())
    return {number.rstrip(",") for number in pattern.findall(plain)}


def known(text: str) -> set[str]:
    """The numbers of a source, with their intervals and alone."""
    return figures(text) | figures(text, _NUMBER)


def units(text: str) -> list[tuple[str, str]]:
    """The heading above each table row, list item and paragraph, and the unit itself as one line."""
    heading, found = "", [("", "")]
    for line in text.splitlines():
        heading = line.lstrip("# ") if line.startswith("#") else heading
        if line.startswith("#") or not line.strip():
            found.append((heading, ""))
        elif line.startswith(("|", "- ")):
            found.append((heading, line))
        else:
            found[-1] = (heading, f"{found[-1][1]} {line.strip()}".strip())
    return found


def sections(text: str, level: str) -> dict[str, str]:
    """Title -> text of each section of one level, up to the next heading of that level or a higher one."""
    parts = re.split(rf"^(#{{1,{len(level)}}}) (.+)$", text, flags=re.MULTILINE)[1:]
    return {title: body for mark, title, body in zip(*[iter(parts)] * 3, strict=True) if mark == level}


def sourced(section: str) -> str:
    """What the sources of a section say: rows, items and paragraphs that have the words under the heading."""
    lines = []
    for source in "".join(_SOURCES.findall(section)).splitlines():
        page, heading, words = source.split(" § ")
        have = [unit for above, unit in units((DOCS / page).read_text()) if above == heading and words in unit]
        assert have, f"docs/{page} has nothing with {words!r} under {heading!r}"
        lines += have
    return "\n".join(lines)


FINDINGS = sections(FOUND.read_text(), "###")


@pytest.mark.parametrize("title", FINDINGS)
def test_a_finding_has_the_figures_and_verdicts_of_its_sources(title):
    section = FINDINGS[title]
    source = sourced(section)
    assert source, "a comment <!-- figures must name the sources"
    assert figures(section) <= known(source), sorted(figures(section) - known(source))
    said = set(VERDICTS.findall(" ".join(re.findall(r"\*([^*]+)\*", section))))
    assert said <= set(VERDICTS.findall(source))


@pytest.mark.parametrize("title", FINDINGS)
def test_a_finding_has_every_part(title):
    parts = re.findall(r"^(?:\*\*|- \*)([\w ]+?)(?:\.\*\*|\*:)", FINDINGS[title], flags=re.MULTILINE)
    assert parts == ["Finding", "Measured on", "Controls", "Limits", "Source"]


def test_the_second_look_is_reported_once_it_was_taken():
    rows = [unit for above, unit in units((DOCS / "papers.md").read_text()) if above == "A second look"]
    was_taken = any(row.startswith("| `") for row in rows)
    assert was_taken is not ("no result yet" in FINDINGS["A second look at training-time claims"])


def test_the_readme_has_the_figures_of_the_findings():
    told = figures(sections((ROOT / "README.md").read_text(), "##")["What was found"])
    assert told <= known(FOUND.read_text()), sorted(told - known(FOUND.read_text()))


QUESTIONS = sections((DOCS / "questions.md").read_text(), "##")


@pytest.mark.parametrize("title", QUESTIONS)
def test_an_answer_has_the_figures_of_the_pages_that_it_links(title):
    pages = "\n".join((DOCS / page).read_text() for page in set(_LINK.findall(QUESTIONS[title])))
    assert figures(QUESTIONS[title]) <= known(pages), sorted(figures(QUESTIONS[title]) - known(pages))
