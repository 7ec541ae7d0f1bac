"""The number of threads while networks are trained."""

import math

import pytest
import torch

from numerai_features.nn import _threads
from numerai_features.nn._threads import WORTH_IT, fixed_threads, n_threads


@pytest.fixture(autouse=True)
def five():
    """A number that nobody else sets."""
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(before)


def test_the_same_whoever_calls():
    seen = []
    for callers in (1, 3, 5):
        torch.set_num_threads(callers)
        with fixed_threads():
            seen.append(torch.get_num_threads())
        assert torch.get_num_threads() == callers
    assert seen == [n_threads(math.inf)] * 3


def test_restored_after_exceptions():
    @fixed_threads()
    def fail():
        torch.set_num_threads(2)
        raise ValueError("for the test")

    with pytest.raises(ValueError, match="for the test"):
        fail()
    assert torch.get_num_threads() == 5


def test_restored_after_one_within_another():
    with fixed_threads():
        with fixed_threads():
            assert torch.get_num_threads() == n_threads(math.inf)
        assert torch.get_num_threads() == n_threads(math.inf)
    assert torch.get_num_threads() == 5


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (3, 3), (16, 16), (200, 16)])
def test_physical_cores_but_not_more_than_help(monkeypatch, cores, expected):
    def cpu_count(only_physical_cores=False):
        return cores if only_physical_cores else 2 * cores

    monkeypatch.setattr(_threads, "cpu_count", cpu_count)
    for operations, number in ((math.inf, expected), (WORTH_IT, expected), (1e8, 1)):
        assert n_threads(operations) == number
        with fixed_threads(operations):
            assert torch.get_num_threads() == number
        assert torch.get_num_threads() == 5
    with fixed_threads():
        assert torch.get_num_threads() == expected
