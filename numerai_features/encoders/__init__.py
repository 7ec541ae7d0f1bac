"""Encoders: the immutable numpy form of fitted embedders, a list of steps.

An `Encoder` is small, pickles without torch, and treats each row alone. Its steps
follow the array-API standard: they run on numpy arrays, and on torch tensors (also on a
GPU) if the input is a tensor.
"""

from numerai_features.encoders._encoder import Concatenate, Encoder
from numerai_features.encoders._recurrent import Recurrent
from numerai_features.encoders._steps import (
    Activation,
    Affine,
    Argmax,
    Fill,
    Quantize,
    Softmax,
)

__all__ = [
    "Activation",
    "Affine",
    "Argmax",
    "Concatenate",
    "Encoder",
    "Fill",
    "Quantize",
    "Recurrent",
    "Softmax",
]
