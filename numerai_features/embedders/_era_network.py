"""Base class of the target networks whose loss may be a correlation within eras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from numerai_features._warn import warn
from numerai_features.embedders._target_network import CORRELATIONS, TargetNetwork
from numerai_features.embedders._target_units import (
    measured_units,
    standard_units,
    to_train_on,
    without_constants,
)
from numerai_features.encoders import Encoder, Fill


class EraNetwork(TargetNetwork, abstract=True):
    """Base class of networks that are trained on whole eras.

    A subclass's networks have ``set_units``; `_encoders_of` returns their encoders.
    """

    def _check_eras(self, eras):
        if eras is None and self.loss in CORRELATIONS:
            warn(
                "No eras were passed: all rows count as one era, and correlations are "
                "over batches of its rows. Pass eras=, or a frame with a column 'era'.",
            )
        super()._check_eras(eras)

    def _without_constants(self, targets, rows, *, all_targets):
        self.n_eras_left_out_ = 0
        if self.loss in CORRELATIONS:
            found = without_constants(
                targets, rows.era_index, self.loss, all_targets=all_targets
            )
            targets, self.n_eras_left_out_ = found
        return targets

    def _prepare(self, rows, among, seed, device, columns=None):
        if rows.y is None:
            return super()._prepare(rows, among, seed, device, columns)
        n_targets, continues = rows.y.shape[1], columns is not None
        factor, constant = np.ones(n_targets), np.zeros(n_targets)
        if continues:
            kept = self.states_[0]
            factor, constant = kept["network.factor"], kept["network.constant"]
        elif self.loss in ("mse", "mae"):
            factor, constant = standard_units(rows.y, among)
        y = to_train_on(rows, (factor, constant), alike=self.loss in CORRELATIONS)
        course = super()._prepare(replace(rows, y=y), among, seed, device, columns)
        course.more.update(units=(factor, constant), continues=continues)
        return replace(course, rows=rows, key=(*course.key, factor, constant))

    def _keep(self, tasks, course):
        measures = self.loss in CORRELATIONS and not course.more["continues"]
        for task in tasks if measures else ():
            steps = self._encoders_of(task, course)[1].steps
            outputs = Encoder([("fill", Fill(course.columns.fill)), *steps])
            task.network.set_units(*measured_units(outputs, course.rows, course.train))
        return super()._keep(tasks, course)


def check_no_targets(net):
    """Raise if a parameter of targets is set, although a network learns from none."""
    left = {"loss": "mse", "target_weights": None, "monitor": "valid_loss"}
    for name, default in left.items():
        given = getattr(net, name)
        if not isinstance(given, type(default)) or given != default:
            raise ValueError(
                f"{name}={given!r} is of targets, which objective={net.objective!r} "
                "does not use. Leave it out, or use objective='both'."
            )
