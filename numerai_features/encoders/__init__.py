"""Encoders: the immutable numpy form of fitted embedders, a list of steps.

An `Encoder` is small, pickles without torch, and treats each row alone, or each era if
it has steps in which rows look at each other. Its steps follow the array-API standard:
they run on numpy arrays, and on torch tensors (also on a GPU) if the input is a tensor.
"""

from numerai_features.encoders._attention import (
    Attention,
    FeatureTokens,
    InducedAttention,
    LayerNorm,
    Positions,
    Residual,
    TokenMean,
)
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
    "Attention",
    "Concatenate",
    "Encoder",
    "FeatureTokens",
    "Fill",
    "InducedAttention",
    "LayerNorm",
    "Positions",
    "Quantize",
    "Recurrent",
    "Residual",
    "Softmax",
    "TokenMean",
]
