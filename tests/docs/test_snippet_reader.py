"""The reader of the pages' blocks itself: what it misses would be run by nobody."""

import pytest
import snippets

PAGE = """# A page

Write it into `a.yaml`:

```yaml
x: 1
```

<!-- not run: needs a moon -->
```console
$ fly --to \\
    moon    # far
it says so
$ back
```

With `a.yaml`:

```console
$ walk
```

Not `b.yaml` itself:

```{code-cell} python
1 + 1
```

<!-- not run: never -->
In between.

```
plain
```
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setattr(snippets, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    return snippets.snippets(tmp_path / "page.md")


def test_blocks_have_their_kind_and_what_is_said_before_them(read):
    assert [(s.kind, s.file, s.not_run) for s in read] == [
        ("yaml", "a.yaml", ""),
        ("console", "", "needs a moon"),
        ("console", "", ""),
        ("python", "", ""),
        ("text", "", ""),
    ]
    assert str(read[0]) == "page.md:5"


def test_commands_are_put_together_and_have_no_remarks(read):
    assert [" ".join(command.split()) for command in read[1].commands] == ["fly --to moon", "back"]


def test_every_fence_of_the_documentation_is_read():
    for page in snippets.PAGES:
        fences = sum(line.startswith(("```", ":::")) for line in page.read_text().splitlines())
        assert fences == 2 * len(snippets.snippets(page)), page
