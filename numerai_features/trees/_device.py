"""Find the devices that a tree library can train on, without importing torch."""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
import sys

from numerai_features._optional import import_optional

_PROBE = """
import sys
import numpy as np
import lightgbm
X = np.arange(400.0).reshape(100, 4) % 7
params = {"device_type": sys.argv[1], "verbosity": -1, "num_leaves": 3, "max_bin": 15}
lightgbm.train(params, lightgbm.Dataset(X, X[:, 0]), 1)
"""


@functools.cache
def nvidia_device_visible() -> bool:
    """Whether an NVIDIA driver is installed and shows a device to this process."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return False
    return count.value > 0


@functools.cache
def lightgbm_device_error(device: str) -> str | None:
    """Train a tiny booster on a device; return the error, or None if it works.

    It runs in a process of its own, because a build without the device prints a fatal
    error, and an OpenCL driver can crash the process.
    """
    command = [sys.executable, "-c", _PROBE, device]
    try:
        probe = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if probe.returncode == 0:
        return None
    lines = probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"]
    fatal = [line for line in lines if "LightGBMError" in line]
    return (fatal or lines)[-1]


def lightgbm_device(device: str) -> str:
    """Return the `device_type` for LightGBM: "cpu", "gpu" (OpenCL) or "cuda"."""
    if device not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'gpu' (OpenCL) or 'cuda'; got {device!r}."
        )
    if device == "auto":
        candidates = ("cuda", "gpu") if nvidia_device_visible() else ()
        working = (d for d in candidates if lightgbm_device_error(d) is None)
        return next(working, "cpu")
    if device == "cpu":
        return device
    error = lightgbm_device_error(device)
    if error is not None:
        raise ValueError(
            f"device={device!r} does not work with this LightGBM: {error}. The wheels "
            "on PyPI have OpenCL ('gpu', which needs the GPU's OpenCL driver) and no "
            "CUDA: install LightGBM built with it, or use device='auto' or 'cpu'."
        )
    return device


def xgboost_device(device: str) -> str:
    """Return the `device` for XGBoost: "cpu", "cuda" or "cuda:<number>"."""
    if device not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>'; got {device!r}."
        )
    if device == "cpu":
        return device
    obstacle = _xgboost_obstacle()
    if obstacle is None:
        return "cuda" if device == "auto" else device
    if device == "auto":
        return "cpu"
    raise ValueError(
        f"device={device!r} does not work: {obstacle}. Use device='auto' or 'cpu'."
    )


def _xgboost_obstacle() -> str | None:
    xgboost = import_optional("xgboost", extra="xgboost", needed_by="make_xgboost")
    if not xgboost.build_info().get("USE_CUDA", False):
        return (
            "this XGBoost is built without CUDA, as the package xgboost-cpu is; the "
            "package xgboost has CUDA"
        )
    if not nvidia_device_visible():
        return "no NVIDIA driver with a visible device (see CUDA_VISIBLE_DEVICES)"
    return None
