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


def built(source: Path) -> Path:
    """The model's folder again; a worker whose cache is `BUILT` need not build it."""
    build(str(source), BUILT, "int8")
    return source


def put_built_tiny(home: Path) -> None:
    """Give a new home of a bot the embedded model ready to run, as if it had run there before."""
    artifact = build(str(EMBEDDED_FOLDER), BUILT, "int8")
    shutil.copytree(artifact, home / "built" / artifact.name)
