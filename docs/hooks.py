"""What the site's generator is told beyond mkdocs.yml: files of the repository that pages link to go along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)(?:#[^)]*)?\)")
#: Cross-references of docstrings, as they stand on a page.
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):(?=<code>)")


def inside(path: str) -> str:
    """Return where a file of the repository stands in the site; Markdown as text: its links are the repository's."""
    return f"repository/{path}" + (".txt" if path.endswith(".md") else "")


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside docs/ that its pages link to."""
    root = Path(config["config_file_path"]).parent
    linked = {p for page in files.documentation_pages() for p in OUTSIDE.findall(page.content_string)}
    for path in sorted(linked):
        if (root / path).is_file():  # else the link stays broken, and the build fails
            files.append(File.generated(config, inside(path), abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links at those files."""
    return OUTSIDE.sub(lambda m: f"]({inside(m[1])})", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leave the names of roles out."""
    return ROLE.sub("", html)
