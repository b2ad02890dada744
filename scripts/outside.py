"""Links of the documents that lead out of `docs/`, in the site (a hook of mkdocs).

On GitHub such a link leads to the file; the site has only what is in `docs/`. So each file that is
linked to becomes a page of the site: Markdown as it is, a notebook cell by cell, anything else as
one block of code. Knows no address of the project: the site is whole by itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")
"""The file of a link or a picture, without its anchor."""
FOLDER = PurePosixPath("project")
"""Where in the site the pages are that are made here."""
STYLE = re.compile(r"<style scoped>.*?</style>|\n\s*", re.DOTALL)
"""What pandas writes about its tables, and ends of lines, where Markdown would begin again."""
KINDS = {".py": "python", ".yaml": "yaml", ".service": "ini"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside that is linked to, also from such a page."""
    root = Path(config.docs_dir).parent
    todo = [Path(one.abs_src_path) for one in files.documentation_pages() if one.abs_src_path]
    while todo:
        for file in linked(todo.pop()):
            place = site_path(file, root)
            if files.get_file_from_path(place) is None:
                files.append(make_page(file, place, config))
                todo += [file] if file.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to the pages that were made."""
    if page.file.abs_src_path is None:  # a block of code
        return markdown
    folder = Path(page.file.abs_src_path).parent
    here = PurePosixPath(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        file = (folder / link[1]).resolve()
        if not file.is_file():
            return link[1]  # mkdocs tells of it
        return os.path.relpath(site_path(file, Path(config.docs_dir).parent), here)

    return LINK.sub(moved, markdown)


def linked(document: Path) -> Iterator[Path]:
    """The files of the project to which a document links."""
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        file = (document.parent / target).resolve()
        if file.is_file():
            yield file


def site_path(file: Path, root: Path) -> str:
    """Where a file of the project is in the site: as in `docs/`, or below FOLDER."""
    inside = file.relative_to(root)
    if inside.parts[0] == "docs":
        return inside.relative_to("docs").as_posix()
    name = inside.name.lstrip(".")  # mkdocs leaves out what begins with a dot
    page = name if inside.suffix == ".md" else f"{name}.md"
    return (FOLDER / inside.with_name(page)).as_posix()


def make_page(file: Path, place: str, config: MkDocsConfig) -> File:
    """A file as a page of the site."""
    if file.suffix == ".md":
        return File.generated(config, place, abs_src_path=str(file))
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        return File.generated(config, place, content=notebook(text))
    block = code(text, KINDS.get(file.suffix, ""))
    return File.generated(config, place, content=f"# {file.name}\n\n{block}")


def notebook(text: str) -> str:
    """What a reader of a notebook sees: the texts, the code between them, and what it showed."""
    return "\n\n".join(part for cell in json.loads(text)["cells"] for part in _cell(cell))


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    said = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield said
        return
    yield code(said, "python")
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            picture = "".join(data["image/png"]).replace("\n", "")
            yield f'<img alt="" src="data:image/png;base64,{picture}">'
        elif "text/html" in data:
            table = STYLE.sub("", "".join(data["text/html"]))
            yield f'<div style="overflow-x: auto">{table}</div>'
        else:
            yield code("".join(output.get("text", data.get("text/plain", ""))), "text")


def code(text: str, kind: str) -> str:
    return f"~~~~{kind}\n{text}\n~~~~\n"
