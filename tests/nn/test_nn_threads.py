"""Threads that share out blocks, and how many there are."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest
import torch

from numerai_features.nn import _threads
from numerai_features.nn._products import product, table_product, times
from numerai_features.nn._threads import cut, each, n_threads, own_threads, shares_out


@pytest.fixture(autouse=True)
def _five():
    """A number that nobody else sets."""
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _many_cores(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: 12)


class TestTorch:
    def test_has_one_thread_and_then_what_it_had(self):
        for callers in (1, 3, 5):
            torch.set_num_threads(callers)
            with own_threads():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == callers

    def test_restored_after_exceptions(self):
        @own_threads()
        def fail():
            torch.set_num_threads(2)
            raise ValueError("for the test")

        with pytest.raises(ValueError, match="for the test"):
            fail()
        assert torch.get_num_threads() == 5

    def test_one_within_another(self):
        with own_threads():
            with own_threads():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 5

    def test_two_at_the_same_time(self):
        """The second one does not take the first one's single thread for the user's."""
        inside, go = threading.Event(), threading.Event()

        def other():
            with own_threads():
                inside.set()
                go.wait()

        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
        with own_threads():
            go.set()
            thread.join()
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 5

    def test_workers_have_one_too(self):
        seen = []
        with own_threads():
            each(lambda _: seen.append(torch.get_num_threads()), range(50))
        assert seen == [1] * 50


@pytest.mark.usefixtures("_many_cores")
class TestNThreads:
    @pytest.mark.parametrize(
        ("n_jobs", "expected"),
        [(None, 5), (1, 1), (3, 3), (8, 5), (-1, 5), (-2, 4), (-9, 1)],
    )
    def test_no_more_than_torch_has(self, n_jobs, expected):
        assert n_threads(n_jobs) == expected
        with own_threads():
            assert n_threads(n_jobs) == expected

    @pytest.mark.parametrize(("cores", "expected"), [(1, 1), (3, 3), (64, 16)])
    def test_no_more_than_cores_or_than_help(self, monkeypatch, cores, expected):
        torch.set_num_threads(32)
        monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: cores)
        assert n_threads() == expected

    def test_environment_and_affinity(self):
        """A process that may use one core, or is told to, has one thread."""
        script = (
            "import os, sys\n"
            "if sys.argv[1:]: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
            "from numerai_features.nn._threads import n_threads\n"
            "print(n_threads())"
        )
        run = [sys.executable, "-c", script]
        for arguments, omp in ((["one"], None), ([], "1")):
            env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
            env |= {} if omp is None else {"OMP_NUM_THREADS": omp}
            told = subprocess.run([*run, *arguments], env=env, capture_output=True)
            assert told.stdout.split() == [b"1"], told.stderr.decode()


@pytest.mark.usefixtures("_many_cores")
class TestEach:
    def test_every_part_once(self):
        for n_parts in (0, 1, 2, 100):
            done = []
            with own_threads():
                each(done.append, range(n_parts))
            assert sorted(done) == [*range(n_parts)]

    def test_in_several_threads(self):
        barrier = threading.Barrier(3)
        with own_threads(3):
            each(lambda _: barrier.wait(20), range(3))

    def test_in_the_caller_alone_without_a_crew(self):
        seen = set()
        each(lambda _: seen.add(threading.current_thread()), range(9))
        assert seen == {threading.current_thread()}

    def test_an_error_comes_out_and_stops_the_others(self):
        done = []

        def work(part):
            if part == 3:
                raise ValueError("part 3")
            done.append(part)

        with own_threads(2), pytest.raises(ValueError, match="part 3"):
            each(work, range(10_000))
        assert len(done) < 9_999


class TestInterrupts:
    """Wherever Ctrl-C comes, and however often, torch has what it had."""

    def test_pressed_until_it_ends(self, monkeypatch):
        monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: 2)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        stop, ended = threading.Event(), threading.Event()

        def press():
            for _ in range(3):
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGINT)
            ended.set()

        def work(_):
            if threading.current_thread() is threading.main_thread():
                stop.wait(20)
            else:
                ended.wait(20)

        presses = threading.Thread(target=press)
        try:
            presses.start()
            with contextlib.suppress(KeyboardInterrupt), own_threads(2):
                each(work, range(4))
            with contextlib.suppress(KeyboardInterrupt):
                presses.join()
            with contextlib.suppress(KeyboardInterrupt):
                presses.join()
        finally:
            signal.signal(signal.SIGINT, before)
        assert torch.get_num_threads() == 5
        assert not _threads._inside
        assert not shares_out(torch.empty(1))

    def test_before_anything_has_begun(self, monkeypatch):
        def interrupted(only_physical_cores):
            raise KeyboardInterrupt

        monkeypatch.setattr(joblib, "cpu_count", interrupted)
        with contextlib.suppress(KeyboardInterrupt), own_threads():
            pass
        assert torch.get_num_threads() == 5
        assert not _threads._inside
        torch.set_num_threads(3)
        assert _threads._of_torch() == 3


class TestCut:
    @pytest.mark.parametrize("size", [0, 1, 5, 64, 1000])
    @pytest.mark.parametrize("n_parts", [0, 1, 3, 7, 2000])
    def test_all_items_in_order(self, size, n_parts):
        items = np.arange(size)
        parts = [items[part] for part in cut(size, n_parts, 4)]
        assert len(parts) <= max(1, n_parts)
        assert len(parts) == 1 or min(map(len, parts)) >= 4
        np.testing.assert_array_equal(np.concatenate(parts), items)


def _products(n_jobs):
    """Return products, and their gradients, of every kind."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).requires_grad_()

    table = torch.randint(0, 5, (700, 900), generator=generator, dtype=torch.int8)
    a, b, matrix, center = draw(600, 500), draw(500, 700), draw(900, 300), draw(900)
    narrow = draw(900, 40)  # fewer columns than one for each thread
    with own_threads(n_jobs):
        y = product(a, b)
        of_bytes = table_product(table, matrix, center.detach())
        of_floats = table_product(table.float(), matrix, center.detach())
        of_few = table_product(table, narrow)
        products = (y, of_bytes, of_floats, of_few)
        sum(made.square().sum() for made in products).backward()
        tall = times(a.detach().T, y.detach())
    gradients = [x.grad for x in (a, b, matrix, narrow)]
    return [x.detach() for x in (*products, tall, *gradients)]


@pytest.mark.usefixtures("_many_cores")
@pytest.mark.parametrize("least", [1 << 24, 1 << 20])
def test_products_are_the_same_to_the_bit(monkeypatch, least):
    monkeypatch.setattr("numerai_features.nn._products._LEAST", least)
    first = _products(1)
    for n_jobs in (2, 5):
        for one, other in zip(first, _products(n_jobs), strict=True):
            assert torch.equal(one, other)


def test_products_and_gradients_are_those_of_torch():
    generator = torch.Generator().manual_seed(1)
    a, b = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).float()
        for shape in ((2000, 300), (300, 400))
    )
    pairs = []
    for use in (product, torch.matmul):
        x, w = a.clone().requires_grad_(), b.clone().requires_grad_()
        with own_threads(2):
            y = use(x, w)
            y.square().sum().backward()
        pairs.append((y.detach(), x.grad, w.grad))
    for ours, torchs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-2)


def test_half_precision():
    a, b = torch.randn(512, 300), torch.randn(300, 400)
    with own_threads(2), torch.autocast("cpu", torch.bfloat16):
        y = product(a, b)
    assert y.dtype == torch.float32
    expected = (a.bfloat16() @ b.bfloat16()).float()
    torch.testing.assert_close(y, expected, rtol=0.02, atol=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("_many_cores")
def test_deep_products_are_sums_of_products(monkeypatch, dtype):
    """The gradient of a weight of few cells, from many rows."""
    monkeypatch.setattr("numerai_features.nn._products._BLOCK", 1 << 20)
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(2111, n, generator=generator).to(dtype) for n in (120, 90))
    found = []
    for n_jobs in (1, 2, 5):
        with own_threads(n_jobs):
            found.append(times(a.T, b))
    assert found[0].dtype == dtype
    exact = a.T.double() @ b.double()
    bound = 1e-3 if dtype == torch.float32 else 1.0
    assert 0 < (found[0] - exact).abs().max() < bound
    assert all(torch.equal(found[0], other) for other in found[1:])
