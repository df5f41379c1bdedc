"""What a demonstration of the lecture found."""

from __future__ import annotations

from geotl.lecture.figures import Shown


def claims_seen(shown: Shown) -> dict[str, bool]:
    """Whether each claim was seen."""
    return {key: bool(found.held) for key, found in shown.findings.items()}
