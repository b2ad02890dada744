"""Limits of a process, set in a child."""

from __future__ import annotations

import subprocess
import sys

import pytest

from core.limits import lower_limit
from core.subprocesses import PROJECT_ROOT

UNLIMITED = -1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's here")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((UNLIMITED, UNLIMITED), (5000, UNLIMITED)),
        ((9000, 9000), (5000, 9000)),
        ((3000, UNLIMITED), (3000, UNLIMITED)),
        ((3000, 3000), (3000, 3000)),
    ],
    ids=["none", "higher", "lower", "lower for good"],
)
def test_a_limit_is_never_raised(before: tuple[int, int], after: tuple[int, int]) -> None:
    code = (
        f"import resource\nfrom {lower_limit.__module__} import lower_limit\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, {before})\nlower_limit('FSIZE', 5000)\n"
        "print(resource.getrlimit(resource.RLIMIT_FSIZE))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT
    )
    assert out.stdout == f"{after}\n"
