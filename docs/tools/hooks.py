"""What mkdocs calls: adds the generated pages, fills in what pages include, takes the tests' words off code blocks."""

from __future__ import annotations

import re
from typing import Any

import include
import papers
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are read from the code."""
    for path, content in (reference.pages() | {"papers.md": papers.papers_page()}).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page includes; show code blocks without the words that tell the tests what to do with them."""
    return re.sub(r"^( *```(?:bash|python))(?: [a-z]+)+$", r"\1", include.filled(markdown), flags=re.MULTILINE)


def on_page_content(html: str, **_: Any) -> str:
    """Show the names in docstrings without Sphinx's roles."""
    return re.sub(r":(?:func|class|mod|meth|data|attr):(?=<code>)", "", html)
