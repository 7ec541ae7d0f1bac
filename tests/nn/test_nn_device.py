"""Where networks are trained, and what their products are made in."""

import pytest
import torch
from nn_parts import bins, denoising, table_of
from torch import nn

from numerai_features.nn._device import (
    WORTH_IT,
    operations,
    resolve_device,
    resolve_precision,
)


@pytest.fixture(params=[False, True])
def has_gpu(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return request.param


def test_auto_is_the_gpu_that_torch_sees(has_gpu):
    expected = torch.device("cuda", 0) if has_gpu else torch.device("cpu")
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_process_of_several_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda:3")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("device", ["tpu", "mps", "gpu:0"])
def test_other_devices_are_refused(device, has_gpu):
    with pytest.raises(ValueError, match=rf"device must be 'auto', .*got '{device}'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"'{device}', but torch sees no CUDA GPU"):
        resolve_device(device)


def test_operations_by_hand():
    # Forward and two gradients, a product and a sum each.
    assert operations(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), 10) == (
        6 * 10 * 5 * 7
    )
    task = denoising(1, table_of(bins(20)), hidden=(8,), n_components=3)
    assert operations(task, 1.5) == 6 * 1.5 * 2 * (12 * 8 + 8 * 3)


class TestPrecision:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)

    @pytest.mark.parametrize("device", [cpu, gpu])
    def test_what_is_asked_for(self, device):
        for name in ("float32", "bfloat16"):
            chosen = resolve_precision(name, device, 1e20)
            assert chosen == getattr(torch, name)

    @pytest.mark.parametrize(
        ("capability", "expected"),
        [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
    )
    def test_auto_on_a_gpu(self, monkeypatch, capability, expected):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        assert resolve_precision("auto", self.gpu, 1.0) == expected

    @pytest.mark.parametrize("amx", [False, True])
    @pytest.mark.parametrize("work", [WORTH_IT / 2, WORTH_IT])
    def test_auto_on_a_cpu(self, monkeypatch, amx, work):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False
        )
        pays = amx and work >= WORTH_IT
        expected = torch.bfloat16 if pays else torch.float32
        assert resolve_precision("auto", self.cpu, work) == expected
