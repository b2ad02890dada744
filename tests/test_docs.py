"""The documents say what is true of the code."""

from __future__ import annotations

import re
from pathlib import Path

from bot.doctor.permissions import ALL, NEEDED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_invite_link_asks_for_the_permissions_that_the_readme_names() -> None:
    [number] = re.findall(r"permissions=(\d+)", README)
    assert int(number) == ALL.value
    assert all(name in " ".join(README.split()) for name in NEEDED)


def test_links_to_files_of_the_project_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
