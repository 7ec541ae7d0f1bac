"""Recurrent networks of trained sequence embedders, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.encoders._step import ArrayStep, check_numbers, like
from numerai_features.encoders._steps import Affine, _sigmoid

_N_GATES = {"gru": 3, "rnn": 1}


@dataclass(frozen=True, eq=False)
class Recurrent(ArrayStep):
    r"""Last state of a recurrent network that reads a sequence from its first step.

    A row holds the steps of a sequence, one after another: n steps of k columns are
    ``n * k`` columns. The state h begins at 0. With :math:`a = x W + b` and
    :math:`u = h U`, "rnn" is :math:`h = \tanh(a + u)`; "gru" has three columns of each
    for a unit, and :math:`r = \sigma(a_1 + u_1)`, :math:`z = \sigma(a_2 + u_2)`,
    :math:`n = \tanh(a_3 + r u_3)`, :math:`h = (1 - z) n + z h`.

    Parameters
    ----------
    kind : {"gru", "rnn"}
    weight : ndarray of shape (k, n_gates * n_units)
    recurrent : ndarray of shape (n_units, n_gates * n_units)
    bias : ndarray of shape (n_gates * n_units,)
    """

    kind: str
    weight: NDArray[np.floating]
    recurrent: NDArray[np.floating]
    bias: NDArray[np.floating]

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _N_GATES:
            raise ValueError(
                f"kind must be one of {sorted(_N_GATES)}; got {self.kind!r}."
            )
        for name, ndim in {"weight": 2, "recurrent": 2, "bias": 1}.items():
            check_numbers(name, getattr(self, name), ndim)
        width = _N_GATES[self.kind] * len(self.recurrent)
        if {a.shape[-1] for a in (self.weight, self.recurrent, self.bias)} != {width}:
            raise ValueError(
                f"weight, recurrent and bias must have {width} columns, "
                f"{_N_GATES[self.kind]} for each of the {len(self.recurrent)} rows of "
                f"recurrent; got {self.weight.shape}, {self.recurrent.shape} and "
                f"{self.bias.shape}."
            )
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return the last state of each sequence, (n_rows, n_units)."""
        k = len(self.weight)
        if x.shape[1] % k:
            raise ValueError(
                f"X has {x.shape[1]} columns; expected a multiple of {k}, the columns "
                "of a step."
            )
        weight, bias = like(self.weight, x, xp), like(self.bias, x, xp)
        recurrent = like(self.recurrent, x, xp)
        state = like(np.zeros((1, len(self.recurrent)), self.recurrent.dtype), x, xp)
        for first in range(0, x.shape[1], k):
            a = x[:, first : first + k] @ weight + bias
            state = _next_state(self.kind, a, state, recurrent, xp)
        return state

    def n_out(self, n_in: int) -> int:
        """Return the number of units, whatever `n_in` is."""
        return len(self.recurrent)


@dataclass(frozen=True, eq=False)
class Unroll:
    """Sequences from their codes, from the last step backwards.

    Parameters
    ----------
    start : Affine
        Maps a code to the first state.
    cell : Recurrent
        Its input is the context of a step.
    output : Affine
        Maps a state to the columns of a step.
    """

    start: Affine
    cell: Recurrent
    output: Affine

    def unroll(self, code: NDArray[Any], context: NDArray[Any]) -> NDArray[Any]:
        """Return sequences of shape (n_sequences, n_steps, n_features).

        Parameters
        ----------
        code : ndarray of shape (n_sequences, n_components)
        context : ndarray of shape (n_sequences, n_steps, n_context)
        """
        cell, state = self.cell, self.start(code, np)
        steps = []
        for t in reversed(range(context.shape[1])):
            a = context[:, t] @ cell.weight + cell.bias
            state = _next_state(cell.kind, a, state, cell.recurrent, np)
            steps.append(self.output(state, np))
        return np.stack(steps[::-1], axis=1)


def _next_state(kind: str, a: Any, state: Any, recurrent: Any, xp: Any) -> Any:
    """Return the states after a step.

    Parameters
    ----------
    kind : {"gru", "rnn"}
    a : array of shape (n_rows, n_gates * n_units)
        What the step's inputs add.
    state : array of shape (n_rows, n_units)
    recurrent : array of shape (n_units, n_gates * n_units)
    """
    u = state @ recurrent
    if kind == "rnn":
        return xp.tanh(a + u)
    n = state.shape[1]
    gates = _sigmoid(a[:, : 2 * n] + u[:, : 2 * n], xp)
    new = xp.tanh(a[:, 2 * n :] + gates[:, :n] * u[:, 2 * n :])
    return new + gates[:, n:] * (state - new)
