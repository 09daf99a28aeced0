"""Takes into the site what its pages link to outside of docs/: each such file becomes a page below source/.

The links stay as the repository has them, so that they lead somewhere there too; here they are turned to those pages.
A link to a folder leads to the list of its files.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".jl": "julia", ".py": "python", ".toml": "toml", ".txt": "text", ".patch": "diff"}
ALWAYS = {"shared_fixtures/FORMAT.md"}
"""Pages of the navigation that lie outside of docs/."""


def page_of(path: str) -> str:
    """Where in docs/ a file or folder of the repository is found."""
    if path.startswith("docs/") and not path.endswith(tuple(LANGUAGES)):
        return path.removeprefix("docs/")
    return "source/" + (path if path.endswith(".md") else f"{path}.md")


def place_of(page: str) -> str:
    """The inverse for a page: where it lies in the repository."""
    return page.removeprefix("source/") if page.startswith("source/") else f"docs/{page}"


def targets(text: str, page: str) -> set[str]:
    """The paths in the repository that the links of a page lead to."""
    folder = PurePosixPath(place_of(page)).parent
    return {normpath((folder / match[1]).as_posix()) for match in LINK.finditer(text)}


def text_of(path: str) -> str:
    """A file of the repository, or the list of a folder, as Markdown."""
    place = ROOT / path
    if place.is_dir():
        files = sorted(file.name for file in place.iterdir() if file.is_file())
        return f"# {path}\n\n" + "\n".join(f"- `{name}`" for name in files) + "\n"
    text = place.read_text("utf-8")
    if place.suffix == ".md":
        return text
    return f"# {path}\n\n````` {LANGUAGES.get(place.suffix, 'text')}\n{text.rstrip()}\n`````\n"


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file that is linked to and is none of the site's own."""
    waiting = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    wanted = set(ALWAYS).union(*(targets(text, page) for page, text in waiting))
    while wanted:
        path = wanted.pop()
        page = page_of(path)
        if not page.startswith("source/") or files.get_file_from_path(page):
            continue
        if not (ROOT / path).exists():
            raise PluginError(f"A page links to {path}, which is not in the repository.")
        text = text_of(path)
        files.append(File.generated(config, page, content=text))
        if path.endswith(".md"):
            wanted |= targets(text, page)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page to where the site has their files."""
    here = page.file.src_uri
    folder = PurePosixPath(place_of(here)).parent

    def turned(match: re.Match[str]) -> str:
        path = normpath((folder / match[1]).as_posix())
        return relpath(page_of(path), PurePosixPath(here).parent.as_posix()) + (match[2] or "")

    return LINK.sub(turned, markdown)
