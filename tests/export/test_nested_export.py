"""Regressors that know eras, inside one another, predict the same when exported."""

import numpy as np
import pytest
from export_parts import FRAME, Y, beside, live_frame
from sklearn.linear_model import Ridge

from numerai_features import (
    AugmentedRegressor,
    CutoutAugmenter,
    EraBlend,
    EraNeutralizer,
    EraRanker,
    FactorAnalysisEmbedder,
    FamiliarityShrinker,
    ResidualTargetRegressor,
)
from numerai_features.export import _runtime
from numerai_features.export._images import IMAGES
from numerai_features.export._model import model_data

BY_ERA = [("fa", FactorAnalysisEmbedder(2, center="era"))]
KINDS = {
    "augmented": lambda model, **keep: AugmentedRegressor(
        model, CutoutAugmenter(random_state=0), **keep
    ),
    "blend": lambda model, **keep: EraBlend([("one", model)], **keep),
    "neutral": lambda model, **keep: EraNeutralizer(model, proportion=0.5, **keep),
    "ranked": lambda model, **keep: EraRanker(model, **keep),
    "residual": lambda model, **keep: ResidualTargetRegressor(model, **keep),
    "shrunk": lambda model, **keep: FamiliarityShrinker(
        model, FactorAnalysisEmbedder(1), **keep
    ),
}


@pytest.mark.filterwarnings("ignore:benchmark is None")
@pytest.mark.parametrize("inner", KINDS)
@pytest.mark.parametrize("outer", KINDS)
def test_nested_regressors_are_exported(outer, inner):
    live = live_frame(90, [*"123"] * 30)
    for keep_outer, as_column in [(True, True), (False, True), (True, False)]:
        within = KINDS[inner](beside(Ridge(), BY_ERA), keep_era=True)
        model = KINDS[outer](within, keep_era=keep_outer)
        table, rows, eras = FRAME, live, [{}, {}]
        if not as_column:
            table, rows = (frame.drop(columns="era") for frame in (FRAME, live))
            eras = [{"eras": frame["era"]} for frame in (FRAME, live)]
        model.fit(table, Y, **eras[0])
        expected = model.predict(rows, **eras[1])
        found = _runtime.raw_predictions(model_data(model, IMAGES["3.13"]), live)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert np.std(expected) > 1e-3
