"""The tree page: one HTML file that shows trajectory trees in any browser; its colours and layout are in viewer.css."""

from __future__ import annotations

from trajtree.report.viewer.page import write_viewer

__all__ = ["write_viewer"]
