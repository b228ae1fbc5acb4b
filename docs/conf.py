"""The documentation site: `make docs` builds it into docs/_build, without the network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "pages"))

import reference

project = "safespan"
copyright = "safespan's authors, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # or pages would ask a CDN for widgets that there are none of

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = "safespan"
html_show_sourcelink = False
html_sidebars = {
    page: [] for page in ("index", "tutorial", "concepts", "questions", "related", "changelog")
}  # there is no section around them
html_theme_options = {
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app):
    """Fill the reference pages from the code that they describe."""
    app.connect("source-read", reference.fill)
