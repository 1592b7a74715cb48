"""Sphinx's settings for the book."""

import os
from pathlib import Path

import minires

project = "minires"
author = copyright = "the minires authors"
version = release = minires.__version__
html_title = "minires, the book"
html_short_title = "minires"
language = "en"

extensions = ["myst_nb", "minires.site.book.mathml"]
html_math_renderer = "mathml"
templates_path = []
exclude_patterns = []

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
nb_execution_mode = os.environ.get("MINIRES_BOOK_EXECUTION", "cache")
nb_execution_cache_path = os.environ["MINIRES_BOOK_CACHE"]
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"type": "module"})]
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
html_favicon = str(Path(minires.__file__).parent / "site" / "static" / "icon.svg")
html_theme_options = {
    "announcement": '<a href="../index.html">minires</a> · <a href="../playground/index.html">Playground</a> · '
    '<a href="index.html">Book</a>',
    "light_css_variables": {
        "color-brand-primary": "#0b62a4",
        "color-brand-content": "#0b62a4",
        "color-brand-visited": "#0b62a4",
        "color-announcement-background": "#ffffff",
        "color-announcement-text": "#1f2328",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc0f5",
        "color-brand-content": "#7cc0f5",
        "color-brand-visited": "#7cc0f5",
        "color-announcement-background": "#131416",
        "color-announcement-text": "#e6e9ed",
    },
}
pygments_style = "github-light-high-contrast"
pygments_dark_style = "github-dark-high-contrast"
