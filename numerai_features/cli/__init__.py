"""The console command ``numerai-features``; heavy imports happen in the commands."""

from __future__ import annotations

from numerai_features.cli._main import main, program

__all__ = ["main", "program"]
