"""What a check finds, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`detail` is what is so; `advice` what to do about it, where it is not `ok`."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def megabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.0f} MB"
