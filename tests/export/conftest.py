"""Pipelines that are fitted once for all tests of this folder."""

import pytest
from export_parts import fit, unfitted


@pytest.fixture(scope="session")
def fitted():
    return {name: fit(pipeline) for name, pipeline in unfitted().items()}
