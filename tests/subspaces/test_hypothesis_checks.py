"""What a hypothesis may not return, and hypotheses that other packages bring."""

import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from claims import gaussian, tensor
from safespan.errors import ConfigError, HypothesisError
from safespan.settings import names as choices
from safespan.subspaces import Basis, Edit, Hypothesis, find_hypothesis, hypothesis

MAKE = {"claim": "c", "paper": "p"}


def unchecked(**parts) -> Basis:
    """A basis past the checks of shapes that run in tests alone."""
    basis = object.__new__(Basis)
    for name in ("left", "right", "left_order", "right_order"):
        object.__setattr__(basis, name, parts.get(name))
    return basis


ORTHONORMAL = torch.eye(4)[:, :2]
BASES = {
    "left basis is not orthonormal (QᵀQ differs from I by 3)": Basis(2 * ORTHONORMAL, None),
    "left basis is not orthonormal (QᵀQ differs from I by 1)": Basis(torch.eye(4)[:, [0, 0]], None),
    "right basis is not orthonormal": Basis(None, gaussian(6, 3)),
    "left basis has shape [6, 2], expected 4 rows and at most 4 columns": Basis(torch.eye(6)[:, :2], None),
    "right basis has shape [4, 2], expected 6 rows and at most 6 columns": Basis(None, ORTHONORMAL),
    "left basis has shape [4, 5], expected 4 rows and at most 4 columns": Basis(torch.eye(5)[:4], None),
    "left basis has shape [4], expected": unchecked(left=torch.ones(4) / 2),
    "left basis holds NaN or Inf": Basis(ORTHONORMAL * float("nan"), None),
    "right basis holds NaN or Inf": Basis(None, torch.full((6, 1), float("inf"))),
    "neither a left nor a right side; return None": Basis(None, None),
    "returned Tensor, expected Basis or None": ORTHONORMAL,
    "returned Edit, expected Basis or None": Edit(torch.ones(4, 6)),
    "left order is no order of its 2 columns": Basis(ORTHONORMAL, None, torch.tensor([0, 0])),
    "right order is no order of its 3 columns": unchecked(right=torch.eye(6)[:, :3], right_order=torch.tensor([1, 0])),
}
EDITS = {
    "update has shape [6, 4], expected [4, 6]": Edit(torch.ones(6, 4)),
    "update or score holds NaN or Inf": Edit(torch.full((4, 6), float("nan"))),
    "update or score holds NaN": Edit(torch.ones(4, 6), float("nan")),
    "or score holds NaN or Inf": Edit(torch.ones(4, 6), float("inf")),
    "returned Basis, expected Edit or None": Basis(ORTHONORMAL, None),
    "returned float, expected Edit or None": 0.5,
}


@pytest.mark.parametrize(
    ("kind", "message", "returned"),
    [
        *(("subspace", message, returned) for message, returned in BASES.items()),
        *((kind, message, returned) for kind in ("layers", "addition") for message, returned in EDITS.items()),
    ],
)
def test_what_is_no_basis_or_edit_of_the_matrix_is_said_in_one_line(kind, message, returned):
    claim = hypothesis("mine", kind=kind, **MAKE)(lambda matrix: returned)
    with pytest.raises(HypothesisError) as caught:
        claim.evaluate(tensor(name="a.b", aligned=torch.zeros(4, 6)))
    text = str(caught.value)
    assert text.startswith("hypothesis 'mine', tensor a.b: it")
    assert message in text
    assert "\n" not in text


def test_the_expert_at_fault_is_named():
    claim = hypothesis("mine", **MAKE)(lambda matrix: Basis(torch.eye(4) * (1 + matrix.name.endswith("[1]")), None))
    with pytest.raises(HypothesisError, match=r"tensor w\[1\]: its left basis is not orthonormal"):
        claim.evaluate(tensor(aligned=torch.zeros(3, 4, 6)))


def test_an_empty_basis_one_order_and_none_pass():
    bases = iter([Basis(torch.empty(4, 0), None), Basis(torch.eye(4), None, torch.randperm(4)), None])
    claim = hypothesis("mine", **MAKE)(lambda matrix: next(bases))
    assert [basis and tuple(basis.left.shape) for basis in claim.evaluate(tensor(aligned=torch.zeros(3, 4, 6)))] == [
        (4, 0),
        (4, 4),
        None,
    ]


@pytest.mark.parametrize("name", [*choices.HYPOTHESES, *choices.NAMED_ONLY])
def test_each_name_finds_the_hypothesis_of_that_name(name):
    claim = find_hypothesis(name)
    assert isinstance(claim, Hypothesis)
    assert claim.name == name
    assert claim.paper.startswith("https://")


DOCS = Path(__file__).parents[2] / "docs"
PAPERS, OWN_CLAIM = ((DOCS / page).read_text() for page in ("papers.md", "howto/claim.md"))

FOREIGN = """
from safespan.subspaces import Basis, hypothesis

@hypothesis("theirs", claim="first rows matter", paper="https://example.org")
def theirs(matrix):
    return Basis(matrix.aligned.new_ones(matrix.shape[0], 1) / matrix.shape[0] ** 0.5, None)

alignment = theirs
plain = 3
"""


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """Set the entry points of other packages, `name=module:attribute`."""
    (tmp_path / "foreign_claims.py").write_text(FOREIGN)
    (tmp_path / "broken_claims.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        find_hypothesis.cache_clear()
        choices.foreign_hypotheses.cache_clear()

    def install(**given):
        forget()
        known = [EntryPoint(name, value, "safespan.hypotheses") for name, value in given.items()]
        monkeypatch.setattr(choices, "entry_points", lambda group: known if group == "safespan.hypotheses" else [])

    yield install
    monkeypatch.undo()
    forget()
    sys.modules.pop("foreign_claims", None)


def test_another_packages_hypothesis_is_one_of_ours(entries):
    entries(theirs="foreign_claims:theirs")
    assert "theirs" in choices.hypothesis_names()
    assert "theirs" in choices.tested_by_default()
    [basis] = find_hypothesis("theirs").evaluate(tensor(aligned=torch.zeros(4, 6)))
    assert torch.equal(basis.left, torch.full((4, 1), 0.5))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("broken_claims:x", "hypothesis 'mine' of broken_claims:x cannot be loaded .*no_such_module_anywhere"),
        ("foreign_claims:absent", "hypothesis 'mine' of foreign_claims:absent cannot be loaded .*absent"),
        ("foreign_claims:plain", "foreign_claims:plain is int: decorate a function with @hypothesis"),
        ("foreign_claims:theirs", "foreign_claims:theirs calls itself 'theirs', and its entry point 'mine'"),
    ],
)
def test_an_entry_point_that_brings_no_hypothesis(entries, entry, message):
    entries(mine=entry)
    with pytest.raises(HypothesisError, match=message) as caught:
        find_hypothesis("mine")
    assert "\n" not in str(caught.value)


def test_our_own_names_are_not_taken_over(entries):
    entries(alignment="foreign_claims:alignment", planted="broken_claims:x")
    assert find_hypothesis("alignment").claim.startswith("safety lies in the leading singular vectors")
    assert find_hypothesis("planted").needs == frozenset()


def test_an_unknown_name_says_which_there_are(entries):
    entries(theirs="foreign_claims:theirs")
    with pytest.raises(ConfigError, match="unknown claim 'top': expected one of alignment, .*theirs, planted"):
        find_hypothesis("top")


def test_the_package_in_the_documentation_brings_its_claim(entries, tmp_path):
    [project], [source] = (re.findall(f"```{kind}\n(.*?)```", OWN_CLAIM, re.DOTALL) for kind in ("toml", "python"))
    (tmp_path / "my_claims.py").write_text(source)
    entries(**tomllib.loads(project)["project"]["entry-points"]["safespan.hypotheses"])
    [basis] = find_hypothesis("aligned-rows").evaluate(tensor(alignment=torch.diag(torch.tensor([1.0, -3.0, 2.0]))))
    assert torch.equal(basis.left, torch.eye(3)[:, [1, 2, 0]])
    assert find_hypothesis("aligned-rows").evaluate(tensor(name="lm_head.weight", alignment=torch.ones(3, 3))) == [None]


@pytest.mark.parametrize("name", [*choices.HYPOTHESES, *choices.NAMED_ONLY])
def test_every_claim_has_its_row_and_its_paper_in_the_documentation(name):
    claim = find_hypothesis(name)
    [row] = re.findall(rf"^\| `{name}` \|.*$", PAPERS[: PAPERS.index("## What came out")], re.MULTILINE)
    _, kind, asked, tests, removes, file = (cell.strip() for cell in row.strip("|").rsplit("|", 5))
    assert kind == claim.kind
    groups = re.findall(r"([^()]+) \(([^()]+)\)(?:, )?", asked)
    needs = {test: named for named, listed in groups for test in listed.split(", ")} or dict.fromkeys(
        claim.tests, asked
    )
    words = {test: set(re.findall(r"\w+", named)) - {"and", "none"} for test, named in needs.items()}
    assert words == {test: claim.needs_of(test) for test in claim.tests}
    assert tests == ", ".join(claim.tests)
    assert (
        removes == {"weights": "W_A", "rows": "W_A, rows keep their norm", "alignment": "Δ_A", None: ""}[claim.removes]
    )
    assert f"{claim.function.__module__.rpartition('.')[2]}.py" == file.strip("`")
    assert f"]({claim.paper})" in PAPERS


@pytest.mark.parametrize("name", [*choices.HYPOTHESES, *choices.NAMED_ONLY])
def test_the_documentation_says_beside_every_claim_how_it_was_tested_there_and_here(name):
    claim = find_hypothesis(name)
    head = PAPERS[PAPERS.index("| paper |") : PAPERS.index("| name |")]
    rows = [line for line in head.splitlines() if f"`{name}`" in line]  # of actsvd two: two papers make its claim
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(says and ((there and read) or paper == "ours") for paper, says, there, read, *_ in cells)
    assert {word for cell in cells for word in cell[3].split(", ")} <= {"all", "code", "abstract", "summaries", ""}
    which = [cell[-3] for cell in cells]
    assert all(which)
    assert ", ".join(test for test in which if test != "none") == ", ".join(claim.authors_tests)
    assert {here for *_, here, _ in cells} == {", ".join(claim.tests)}
