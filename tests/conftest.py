"""Panels that the tests share, and the real rows where they are at hand."""

from pathlib import Path

import pytest
from hypothesis import settings

from numerai_features import _whole
from numerai_features.datasets import make_era_panel

# A shared machine may be slow at any moment: how long an example takes proves nothing.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def panel():
    """A small synthetic panel."""
    return make_era_panel(n_eras=30, rows_per_era=80, n_features=20, random_state=0)


@pytest.fixture(scope="session")
def frame(panel):
    """The same rows as Numerai would write them, features and era only."""
    return panel.to_frame(targets=[])


@pytest.fixture(scope="session")
def real_data():
    """The folder of real rows; a public clone has none."""
    if not (REAL / "train.parquet").exists():
        pytest.skip("no real rows beside this clone")
    return REAL


@pytest.fixture(params=["at once", "by two renames"])
def exchange(request, monkeypatch):
    """Where two folders can be exchanged in one step, and where not."""
    if request.param == "by two renames":
        monkeypatch.setattr(_whole, "_renameat2", lambda: None)
    elif _whole._renameat2() is None:
        pytest.skip("this system cannot exchange two paths")
    return request.param
