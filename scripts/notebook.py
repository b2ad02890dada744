"""Runs the notebook and stores what it shows, so that it can be read without running it.

    python -m scripts.notebook

takes a minute or two, with the embedded model. The stored outputs are those of the code that is
there: a hash of the code is kept beside them, and a test compares it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "gpt2_step_by_step.ipynb"
CODE_HASH = "code_of_the_outputs"
"""In the notebook's metadata: of which code the outputs are."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""
"""In a process of its own: the kernel's client has an event loop and warnings that are not ours."""


def run_notebook(source: Path, home: Path) -> Any:
    """The notebook as it is after a run, as if it was opened in a checkout; `home` is for what it
    writes. Raises RuntimeError with what was said if a cell fails."""
    made = home / "run.ipynb"
    jupyter = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    own = dict.fromkeys(jupyter, str(home / "jupyter"))
    done = subprocess.run(
        [sys.executable, "-c", RUN, source, NOTEBOOK.parent, made],
        cwd=home,
        env=os.environ | own | {"GPT2BOT_HOME": str(home / "var")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return nbformat.read(made, as_version=4)


def code_hash(notebook: Any) -> str:
    """Of all code, in its order."""
    code = [[cell.id, cell.source] for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def stored(notebook: Any, home: Path) -> Any:
    """The notebook as it is committed: with its outputs, without times and folders of a machine."""
    text = nbformat.writes(notebook).replace(str(home), "…")
    made = nbformat.reads(text, as_version=4)
    made.metadata = nbformat.from_dict(METADATA | {CODE_HASH: code_hash(made)})
    for cell in made.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = list(_joined(cell.outputs))
    return made


def _joined(outputs: list[Any]) -> Iterator[Any]:
    """What was printed in a row as one output: it comes in pieces, which differ each time."""
    for _, run in groupby(outputs, key=lambda one: one.get("name", id(one))):
        first, *more = run
        for one in more:
            first.text += one.text
        yield first


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        nbformat.write(stored(run_notebook(NOTEBOOK, home), home), NOTEBOOK)
    print(f"{NOTEBOOK.relative_to(ROOT)} has the outputs of a run.")


if __name__ == "__main__":
    main()
