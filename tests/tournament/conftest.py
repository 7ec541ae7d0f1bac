"""Numerai's server on this machine, with the files of a small version of the data."""

import pytest
from offers import offer
from server import KEYS, Numerai

from numerai_features.datasets import make_era_panel
from numerai_features.tournament import _http


@pytest.fixture
def keys(monkeypatch):
    """The user's keys, in the environment."""
    monkeypatch.setenv("NUMERAI_PUBLIC_ID", KEYS[0])
    monkeypatch.setenv("NUMERAI_SECRET_KEY", KEYS[1])


@pytest.fixture(scope="session")
def rows():
    """Rows of 40 eras, as Numerai writes them."""
    panel = make_era_panel(n_eras=40, rows_per_era=50, n_features=12, random_state=0)
    return panel.to_frame()


@pytest.fixture
def server(monkeypatch, rows):
    """The server, which the client asks instead of Numerai's."""
    numerai = Numerai()
    monkeypatch.setenv("NUMERAI_API_URL", numerai.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("NUMERAI_PUBLIC_ID", raising=False)
    monkeypatch.delenv("NUMERAI_SECRET_KEY", raising=False)
    monkeypatch.setattr(_http, "DELAYS", (0.0, 0.01, 0.02))
    offer(numerai, rows)
    yield numerai
    numerai.shutdown()
    numerai.server_close()
