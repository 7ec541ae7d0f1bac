"""Numerai's server on this machine, with the files of a small version of the data."""

import pytest
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


def offer(numerai, rows, *, version="v5.3", live=0):
    """Offer the files of a version of the data; `live` numbers the live era."""
    features = [name for name in rows if name.startswith("feature")]
    targets = [name for name in rows if name.startswith("target")]
    eras = sorted(rows["era"].unique())
    train = rows[rows["era"].isin(eras[:30])]
    validation = rows[rows["era"].isin(eras[30:38])]
    now = rows[rows["era"] == eras[38]].assign(era="X")
    now.index = [f"live{live}_{i}" for i in range(len(now))]
    now.index.name = "id"
    now[targets] = float("nan")
    metadata = {"feature_sets": {"small": features[:4], "all": features}}
    numerai.add(f"{version}/features.json", {**metadata, "targets": targets})
    for name, part in {"train": train, "validation": validation, "live": now}.items():
        numerai.add(f"{version}/{name}.parquet", part)
        benchmark = part[["era"]].assign(
            v53_lgbm_ender60=part[features[:3]].mean(axis=1).rank(pct=True)
        )
        numerai.add(f"{version}/{name}_benchmark_models.parquet", benchmark)
    meta = validation[["era"]].assign(
        data_type="validation", numerai_meta_model=validation[features[3]] / 5
    )
    numerai.add(f"{version}/meta_model.parquet", meta)


def offered(numerai, version="v5.3"):
    """Return what the server offers of a version, by name."""
    return {
        name.partition("/")[2]: file.content
        for name, file in numerai.files.items()
        if name.startswith(version)
    }


def contents(folder):
    """Return what was downloaded into a folder: all that is in it but the record."""
    found = {path.name: path for path in folder.iterdir()}
    found.pop("downloads.sealed")
    return {name: path.read_bytes() for name, path in found.items()}
