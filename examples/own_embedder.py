"""A custom embedder: a masked autoencoder.

Some cells of a row are masked, and a network reconstructs them from the others. This
file has only what is specific to it: two parameters, a torch module with its loss, and
the conversion of the trained module to numpy steps. `NetworkEmbedder` reads the rows,
holds some out, makes batches and trains; it has some twenty parameters of training.
"""

from dataclasses import field
from typing import Any, ClassVar

import torch

from numerai_features._arguments import COUNT, Finite
from numerai_features.datasets import make_era_panel
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.encoders import Encoder
from numerai_features.nn._layers import Block, Linear, Standardized
from numerai_features.nn._noise import mask
from numerai_features.nn._task import Task


class MaskedRestoring(Task):
    """A network with one hidden layer, and its squared error on masked cells."""

    def __init__(self, table, n_components, share, middle):
        super().__init__()
        linear = Linear(table.n_features, n_components, bias=False)
        self.encoder = Block(Standardized(linear, table.center, table.scale), "tanh")
        self.decoder = torch.nn.Linear(n_components, table.n_features)
        self.share, self.middle = share, middle

    def forward(self, batch):
        """Return the loss of a batch."""
        middle = self.middle.to(batch.x)
        x = torch.where(batch.x.isnan(), middle, batch.x)
        masked = mask(x, self.share, middle, batch.draws)
        gap = self.decoder(self.encoder(masked)) - self.encoder.linear.standardize(x)
        error = (gap.square() * (masked != x)).mean(1)
        weighted = error if batch.weight is None else error * batch.weight
        return weighted.sum() / (self.share * batch.total)


class CellRestorer(NetworkEmbedder):
    """Latent features of a network that reconstructs masked cells.

    Parameters
    ----------
    n_components : int, default=16
        Number of latents.
    share : float, default=0.3
        Probability that a cell is masked.

    Examples
    --------
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, random_state=0)
    >>> embedder = CellRestorer(4, max_epochs=2, random_state=0)
    >>> embedder.fit_transform(panel.X, eras=panel.eras).shape
    (800, 4)
    """

    n_components: int = field(default=16, kw_only=False)
    share: float = 0.3

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [COUNT],
        "share": [Finite(0, 1, "neither")],
    }

    def _make_task(self, course):
        return MaskedRestoring(
            course.table, self.n_components, self.share, course.middle
        )

    def _encoder_of(self, task, course):
        columns = course.columns
        return Encoder(task.encoder.steps("code", columns.dtype, columns.units))


if __name__ == "__main__":
    panel = make_era_panel(n_eras=60, rows_per_era=200, random_state=0)
    embedder = CellRestorer(8, random_state=0)
    embedder.fit(panel.X, eras=panel.eras)
    print(embedder)
    print(f"best epoch {embedder.best_epoch_[0]} of {embedder.n_iter_}")
    print(embedder.transform(panel.X[:3]).round(2))
