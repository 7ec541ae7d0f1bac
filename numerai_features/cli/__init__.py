"""The console command ``numerai-features``; what is heavy is imported where it runs."""

from __future__ import annotations

from numerai_features.cli._main import main, program

__all__ = ["main", "program"]
