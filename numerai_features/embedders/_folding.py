"""From a trained network to the steps of an `Encoder`: arrays, normalisation folded."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features.encoders import Activation, Affine, Concatenate, Encoder, Step

Steps = list[tuple[str, Step]]


def encoder_of(
    blocks: Any, model: int, mean: Any, scale: Any, *, deep: bool, dtype: Any
) -> Encoder:
    """Return one model's blocks of layers as an encoder of rows as they are.

    Parameters
    ----------
    blocks : sequence of Block
    model : int
        Which of the stack's models.
    mean, scale : ndarray of shape (n_features,)
        What columns are standardised by; a scale of 0 is that of a constant column.
    deep : bool
        Whether the result is the activations of all blocks, not of the last alone.
    dtype : numpy dtype
        Of the arrays.
    """
    nested: Steps = []
    for i, block in reversed([*enumerate(blocks)]):
        standard = (mean, np.where(scale > 0, scale, 1.0)) if i == 0 else None
        steps = _block_steps(block, model, f"layer{i}", dtype, standard)
        if nested and deep:
            both = Concatenate((Encoder([]), Encoder(nested)))
            nested = [*steps, (f"deep{i}", both)]
        else:
            nested = [*steps, *nested]
    return Encoder(nested)


def decoder_of(
    blocks: Any, output: Any, model: int, mean: Any, scale: Any, dtype: Any
) -> Encoder:
    """Return one model's decoder, with its output in the units of the features."""
    steps: Steps = []
    for i, block in enumerate(blocks):
        steps += _block_steps(block, model, f"layer{i}", dtype)
    weight, bias = _array(output.weight[model]), _array(output.bias[model])
    return Encoder(
        [*steps, ("output", _affine(weight, scale, bias * scale + mean, dtype))]
    )


def supervised_of(
    stack: Any, model: int, mean: Any, scale: Any, *, sigmoid: bool, dtype: Any
) -> tuple[Encoder, Encoder]:
    """Return one model's code, and its predictions, as encoders of rows as they are.

    Parameters
    ----------
    stack : SupervisedAutoencoder
    model : int
        Which of the stack's models.
    mean, scale : ndarray of shape (n_features,)
        What columns are standardised by; a scale of 0 is that of a constant column.
    sigmoid : bool
        Whether predictions are shares.
    dtype : numpy dtype
        Of the arrays.
    """
    weight, wide = (_array(a.weight[model]) for a in (stack.encode, stack.wide))
    n_features, activation = len(weight), stack.activation
    factor, shift = (_array(v[model]) for v in stack.table_norm.affine())
    again, moved = (_array(v[model]) for v in stack.wide_table_norm.affine())
    unit = np.where(scale > 0, scale, 1.0)

    def of_rows(a: Any, b: Any, matrix: Any) -> tuple[Any, Any]:
        """Move ``(x - mean) / unit * a + b`` into a product."""
        a = a / unit
        return a[:, None] * matrix, (b - a * mean) @ matrix

    first, constant = of_rows(factor, shift, weight)
    a, b = (_array(v[model]) for v in stack.encode_norm.affine())
    steps: Steps = [("code", _affine(first, a, constant * a + b, dtype))]
    code = Encoder([*steps, ("code_act", Activation(activation))])

    top, constant = of_rows(again * factor, again * shift + moved, wide[:n_features])
    a, b = (_array(v[model]) for v in stack.wide_code_norm.affine())
    below, constant = a[:, None] * wide[n_features:], constant + b @ wide[n_features:]
    a, b = (_array(v[model]) for v in stack.wide_norm.affine())
    both = np.concatenate([top, below])
    steps = [
        ("beside", Concatenate((Encoder([]), code))),
        ("wide", _affine(both, a, constant * a + b, dtype)),
        ("wide_act", Activation(activation)),
    ]
    for i, block in enumerate(stack.blocks):
        steps += _block_steps(block, model, f"layer{i}", dtype)
    head = _array(stack.head.weight[model]), _array(stack.head.bias[model])
    steps.append(("head", _affine(head[0], np.ones(len(head[1])), head[1], dtype)))
    if sigmoid:
        steps.append(("sigmoid", Activation("sigmoid")))
    return code, Encoder(steps)


def perceptron_of(
    net: Any, model: int, dtype: Any, mean: Any = 0.0, scale: Any = 1.0
) -> Steps:
    """Return one model's perceptron as steps, its layers affine one by one.

    Parameters
    ----------
    net : Perceptron
    model : int
        Which of the stack's models.
    dtype : numpy dtype
        Of the arrays.
    mean, scale : ndarray of shape (n_in,) or float, default=0.0, 1.0
        What the input is standardised by.
    """
    steps: Steps = []
    for i, layer in enumerate(net.layers):
        linear = getattr(layer, "linear", layer)
        weight, bias = (_array(a[model]) for a in (linear.weight, linear.bias))
        if i == 0:
            weight = weight / np.reshape(scale, (-1, 1))
            bias = bias - np.broadcast_to(mean, len(weight)) @ weight
        if i:
            steps.append((f"layer{i}_{net.activation}", Activation(net.activation)))
        steps.append(
            (f"layer{i + 1}", Affine(weight.astype(dtype), bias.astype(dtype)))
        )
    return steps


def _block_steps(
    block: Any, model: int, name: str, dtype: Any, standard: Any = None
) -> Steps:
    scale, shift = (_array(a[model]) for a in block.norm.affine())
    weight = _array(getattr(block.linear, "linear", block.linear).weight[model])
    if standard is not None:
        center, unit = standard
        weight = weight / unit[:, None]
        shift = shift - center @ weight * scale
    steps: Steps = [(name, _affine(weight, scale, shift, dtype))]
    if block.activation != "identity":
        steps.append((f"{name}_{block.activation}", Activation(block.activation)))
    return steps


def _affine(weight: Any, scale: Any, shift: Any, dtype: Any) -> Affine:
    return Affine((weight * scale).astype(dtype), shift.astype(dtype))


def _array(tensor: Any) -> Any:
    return np.asarray(tensor.detach().double().numpy())
