"""The option --report-to: trackers that are told of progress."""

from __future__ import annotations

from typing import Annotated

from trajtree.cli.options.choices import described, option_of
from trajtree.explore.trackers import TRACKERS

ReportOption = Annotated[
    list[str] | None,
    option_of(TRACKERS, "--report-to", help=f"Also report progress to a tracker: {described(TRACKERS)}; repeatable."),
]

__all__ = ["ReportOption"]
