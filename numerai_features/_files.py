"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path


class replacing:
    """A temporary file that takes its place when the block ends well."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.replace(self.temporary, self.file)
        else:
            self.temporary.unlink(missing_ok=True)
