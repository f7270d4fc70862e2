"""The tree viewer: one HTML page that shows trajectory trees and needs only a browser."""

from __future__ import annotations

from trajtree.report.viewer.page import write_viewer

__all__ = ["write_viewer"]
