"""Several networks of one shape: in a row, or at once where that pays."""

from __future__ import annotations

from collections.abc import Sequence

from numerai_features.nn._training import Trainer


def train_all(trainers: Sequence[Trainer]) -> None:
    """Train networks to the end, one after the other.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C ends one, and others have not been trained.
    """
    for number, trainer in enumerate(trainers, 1):
        trainer.run()
        if trainer.interrupted and number < len(trainers):
            raise KeyboardInterrupt(f"in network {number} of {len(trainers)}")
    for trainer in trainers:
        if trainer.checkpoint is not None and not trainer.interrupted:
            trainer.checkpoint.remove()
