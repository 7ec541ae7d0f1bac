"""Import optional dependencies where they are used, with a helpful error message."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_optional(module: str, *, extra: str, needed_by: str) -> ModuleType:
    """Import `module`, or raise with the extra of this package that installs it.

    Parameters
    ----------
    module : str
        Module to import.
    extra : str
        The extra of ``numerai-features`` that installs it.
    needed_by : str
        The public name that needs it.

    Raises
    ------
    ImportError
        If the module is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs {module}, which cannot be imported ({error}). Install "
            f"it with: pip install 'numerai-features[{extra}]'"
        ) from error
