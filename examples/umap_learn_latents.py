"""Latents of umap-learn compared with those of UMAPEmbedder.

`LatentFeatures` accepts any transformer. umap-learn lays out the training rows, and
places new rows among them; `UMAPEmbedder` trains a network that computes the layout.
For each, the script prints how far a row's position changes with the other rows of the
call, the time to transform an era, and the size of the pickle.

    pip install 'numerai-features[umap]'
    python examples/umap_learn_latents.py
"""

import pickle
import time

import numpy as np
import umap

from numerai_features import LatentFeatures, UMAPEmbedder, make_era_panel


class UnlabelledUMAP(umap.UMAP):
    """UMAP that ignores y, which a Pipeline passes to all of its steps."""

    def fit(self, X, y=None, *args, **kwargs):
        return super().fit(X, None, *args, **kwargs)


def main():
    panel = make_era_panel(n_eras=40, rows_per_era=50, n_features=50, random_state=0)
    train, test = panel.eras <= 30, panel.eras > 38
    last = panel.eras[test] == 40
    for umap_ in (
        UnlabelledUMAP(n_components=8, n_jobs=1, random_state=0),
        UMAPEmbedder(8, random_state=0),
    ):
        latents = LatentFeatures([("umap", umap_)], passthrough=False)
        latents.fit(panel.X[train], panel.y()[train], eras=panel.eras[train])
        together = latents.transform(panel.X[test])
        start = time.perf_counter()
        alone = latents.transform(panel.X[test][last])
        seconds = time.perf_counter() - start
        moved = np.abs(alone - together[last]).max() / together.std()
        size = len(pickle.dumps(latents)) / 1e6
        print(f"{latents.get_feature_names_out()[0]} and {together.shape[1] - 1} more")
        print(f"  moved by {moved:.3f} standard deviations at most")
        print(f"  {seconds:.3f} s for {last.sum()} rows, a pickle of {size:.2f} MB")


if __name__ == "__main__":
    main()
