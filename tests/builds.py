"""Models that are ready to run, for all tests of this process and the workers that they start.

They are built here, which costs less than in a child of a worker's own for each.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from model.convert.build import build
from model.registry import EMBEDDED_FOLDER

BUILT = Path(tempfile.mkdtemp(prefix="gpt2bot-tests-"))
atexit.register(shutil.rmtree, BUILT, ignore_errors=True)


def built(source: Path, precision: str = "int8") -> Path:
    """The model's folder again; a worker whose cache is `BUILT` need not build it."""
    build(str(source), BUILT, precision)
    return source


def put_built(source: Path, home: Path) -> None:
    """Give a new home of a bot this model ready to run, as if it had run there before."""
    artifact = build(str(source), BUILT, "int8")
    shutil.copytree(artifact, home / "built" / artifact.name)


def put_built_tiny(home: Path) -> None:
    """The same with the embedded model."""
    put_built(EMBEDDED_FOLDER, home)
