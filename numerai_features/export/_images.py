"""The images that a model runs in on Numerai's servers, and their libraries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes
    ----------
    python, numpy, pandas, pyarrow, lightgbm, xgboost : str
        Their versions.
    """

    python: str
    numpy: str
    pandas: str
    pyarrow: str
    lightgbm: str
    xgboost: str

    def version(self, library: str) -> tuple[int, ...]:
        """Return the version of a library as numbers."""
        return tuple(int(n) for n in getattr(self, library).split("."))


IMAGES = {
    "3.10": Image("3.10", "1.26.4", "2.2.1", "14.0.1", "4.0.0", "1.7.5"),
    "3.11": Image("3.11", "2.1.3", "2.3.2", "21.0.0", "4.6.0", "3.0.5"),
    "3.12": Image("3.12", "2.1.3", "2.3.2", "18.1.0", "4.5.0", "3.0.5"),
    "3.13": Image("3.13", "2.2.6", "2.3.3", "18.1.0", "4.5.0", "3.0.5"),
    "3.14": Image("3.14", "2.4.6", "3.0.5", "25.0.0", "4.5.0", "3.0.5"),
}
"""The images by the version of Python; "3.13" is Numerai's default."""
