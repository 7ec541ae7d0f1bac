import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import numerai_features

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("sklearn", "torch", "pandas", "scipy", "pyarrow", "matplotlib")


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout


def imported_by(statement):
    return run(f"{statement}\nimport sys; print(*sys.modules)").split()


@pytest.mark.parametrize("name", ["", ".experiment", ".cli"])
def test_importing_the_package_imports_nothing_heavy(name):
    assert not set(HEAVY) & set(imported_by(f"import numerai_features{name}"))


@pytest.mark.parametrize("name", numerai_features._SUBPACKAGES)
def test_no_subpackage_imports_torch_or_a_tree_library(name):
    modules = set(imported_by(f"import numerai_features.{name}"))
    assert not {"torch", "lightgbm", "xgboost", "matplotlib", "polars"} & modules


def test_transforming_needs_no_torch():
    program = (
        "import numpy as np\n"
        "from numerai_features.embedders import FactorAnalysisEmbedder\n"
        "X = np.random.default_rng(0).integers(0, 5, (50, 4)).astype('int8')\n"
        "FactorAnalysisEmbedder(1).fit(X).transform(X)"
    )
    assert "torch" not in imported_by(program)


def test_public_names_are_there_and_sorted():
    assert set(dir(numerai_features)) == set(numerai_features.__all__)
    for name in numerai_features.__all__:
        assert getattr(numerai_features, name) is not None
    for name in numerai_features._SUBPACKAGES:
        module = importlib.import_module(f"numerai_features.{name}")
        assert list(module.__all__) == sorted(module.__all__)
        for public in module.__all__:
            assert not public.startswith("_")
            assert getattr(module, public) is not None


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = numerai_features.nothing


def test_scikit_learns_private_names_are_used_in_one_module_only():
    marks = ("import _", "_param_validation", "sklearn.base._", "._validation import _")
    for path in (ROOT / "numerai_features").rglob("*.py"):
        if path.name == "_compat.py":
            continue
        for line in path.read_text().splitlines():
            if "sklearn" in line and "import" in line:
                assert not any(mark in line for mark in marks), (path, line)


def test_extras_of_the_error_messages_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {"lightgbm", "xgboost", "umap", "plots", "tune", "dask", "all"} <= set(
        extras
    )
