"""features.json: sets, targets, and files that are something else."""

import json
from pathlib import Path

import pytest

from numerai_features.datasets import NumeraiMetadata

DATA = Path(__file__).parents[3] / "shared" / "data"


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def metadata(tmp_path):
    content = {
        "feature_stats": {"feature_a": {"mean": 1.5}},
        "feature_sets": {"small": ["feature_b", "feature_a"], "all": ["feature_a"]},
        "targets": ["target", "target_x_20"],
    }
    return NumeraiMetadata.read(write(tmp_path / "features.json", content))


def test_sets_keep_their_order_and_other_keys_are_ignored(metadata):
    assert metadata.features("small") == ["feature_b", "feature_a"]
    assert metadata.features() == ["feature_a"]
    assert metadata.targets == ("target", "target_x_20")


def test_features_returns_a_list_of_its_own(metadata):
    metadata.features("small").clear()
    assert len(metadata.features("small")) == 2


def test_unknown_set_names_the_sets_and_suggests_near_ones(metadata):
    match = "'smal' is no feature set. Did you mean 'small'.*There are 2: 'small', 'al"
    with pytest.raises(ValueError, match=match):
        metadata.features("smal")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"features\.json\. Download"):
        NumeraiMetadata.read(tmp_path / "features.json")


@pytest.mark.parametrize(
    "content", ['{"feature_sets": {"a', "", "\x00\xff", "[" * 99_999, '{"a":' * 99_999]
)
def test_file_that_is_not_json(tmp_path, content):
    with pytest.raises(ValueError, match=r"is not JSON .* download it again"):
        NumeraiMetadata.read(write(tmp_path / "f.json", content))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"targets": []},
        {"feature_sets": {}},
        {"feature_sets": ["feature_a"], "targets": []},
        {"feature_sets": {"small": "feature_a"}, "targets": []},
        {"feature_sets": {"small": [1]}, "targets": []},
        {"feature_sets": {}, "targets": {"target": 1}},
    ],
)
def test_json_of_another_form(tmp_path, content):
    with pytest.raises(ValueError, match=r"no Numerai features\.json: expected"):
        NumeraiMetadata.read(write(tmp_path / "f.json", content))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "f.json").write_bytes(b'{"targets": ["\xff"]}')
    with pytest.raises(ValueError, match=r"f\.json is not JSON .* download it again"):
        NumeraiMetadata.read(tmp_path / "f.json")


@pytest.mark.parametrize(
    ("sets", "targets", "match"),
    [
        ([], (), r"feature_sets must be a dict of lists of names; got \[\]"),
        ({"a": "feature_a"}, (), r"feature_sets\['a'\] must be a list of names"),
        ({1: ["feature_a"]}, (), "feature_sets must be a list of names, as str"),
        ({}, "target", r"targets must be a list of names.*Pass \['target'\]"),
        ({}, None, "targets must be a list of names, as str; got None"),
    ],
)
def test_wrong_arguments(sets, targets, match):
    with pytest.raises(ValueError, match=match):
        NumeraiMetadata(sets, targets)


@pytest.mark.parametrize("name", [None, 3, ["small"]])
def test_a_set_is_asked_for_by_name(metadata, name):
    with pytest.raises(ValueError, match="is no feature set"):
        metadata.features(name)


def test_what_it_was_made_of_may_change(tmp_path):
    names = ["feature_a"]
    sets = {"small": names}
    metadata = NumeraiMetadata(sets, names)
    names.append("feature_b")
    sets.clear()
    assert metadata.features("small") == ["feature_a"]
    with pytest.raises(TypeError, match="path must be a path, as str or"):
        NumeraiMetadata.read(3)


@pytest.mark.skipif(not DATA.is_dir(), reason="no real rows beside the repository")
def test_a_real_release():
    metadata = NumeraiMetadata.read(DATA / "numerai_v5.0_features.json")
    sizes = {name: len(names) for name, names in metadata.feature_sets.items()}
    assert (sizes["small"], sizes["medium"], sizes["all"]) == (42, 705, 2376)
    assert len(sizes) == 17
    assert len(metadata.targets) == 37
    with pytest.raises(ValueError, match="Did you mean 'medium'"):
        metadata.features("Medium")
