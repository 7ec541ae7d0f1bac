"""The table of images is the guide's."""

import re
from pathlib import Path

from numerai_features.export._images import IMAGES

PAGE = Path(__file__).parents[2] / "docs" / "upload.rst"


def test_the_guide_has_the_versions_of_all_images():
    number = r"[\d.]+"
    rows = re.findall(
        rf"\* - ({number})(?: \(default\))?\n" + rf"     - ({number})\n" * 5,
        PAGE.read_text(),
    )
    own = [
        (i.python, i.numpy, i.pandas, i.pyarrow, i.lightgbm, i.xgboost)
        for i in IMAGES.values()
    ]
    assert rows == own
