"""How the documentation is built: `make docs`."""

from numerai_features import __version__

project = "numerai-features"
author = "the numerai_features developers"
copyright = "2026, the numerai_features developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"

autosummary_generate = True
autodoc_typehints = "none"  # docstrings tell the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "alabaster"
html_theme_options = {
    "description": "Latent features and honest validation for Numerai",
    "fixed_sidebar": True,
    "page_width": "1080px",
}
html_show_sphinx = False
