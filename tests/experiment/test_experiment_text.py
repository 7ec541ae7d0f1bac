"""The printed text of an experiment: tables of 100 columns, and a sentence an arm."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from numerai_features.experiment import Experiment
from numerai_features.experiment._text import formatted, shortened
from numerai_features.experiment._verdicts import (
    sentences,
    verdicts,
    with_deflated_sharpe,
)
from numerai_features.metrics import (
    deflated_sharpe_ratio,
    eras_needed,
    mean_interval,
    paired_differences,
    summarize_scores,
)

LONG = "a_very_long_name_of_an_arm" * 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The result of a tiny experiment with an arm of a long name."""
    experiment = Experiment.from_dict(
        {
            "data": {"synthetic": {"n_eras": 20, "rows_per_era": 20, "n_features": 6}},
            "cv": {"n_splits": 1, "purge": 1},
            "latents": {LONG: {"embedder": "FactorAnalysisEmbedder"}},
            "model": {"n_jobs": 1, "params": {"n_estimators": 2}},
        },
        output=tmp_path_factory.mktemp("made") / "out",
    )
    return experiment.run(verbose=False)


def with_gains(made, gains, n_eras=80, overlap=4, spread=0.004):
    """Return a result whose arms have these mean differences, up to noise."""
    rng = np.random.default_rng(0)
    market = rng.normal(0.01, 0.02, size=n_eras)
    scores = pd.DataFrame({"originals": market}, index=range(101, 101 + n_eras))
    for arm, gain in gains.items():
        noise = rng.normal(0, spread, size=n_eras)
        scores[arm] = market + gain + noise - noise.mean()
    differences = paired_differences(scores, "originals", overlap)
    summary = summarize_scores(scores)
    return dataclasses.replace(
        made, scores=scores, differences=differences, summary=summary
    )


class TestSentences:
    def test_one_for_each_arm(self, made):
        gains = {"+ good": 0.01, "+ bad": -0.01, "+ same": 0.0, "+ gone": 0.0}
        result = with_gains(made, gains)
        scores = result.scores.assign(**{"+ gone": np.nan})
        scores.loc[101:105, "+ gone"] = 0.1
        table = paired_differences(scores, "originals", 4)
        result = dataclasses.replace(result, scores=scores, differences=table)
        good, bad, same, gone = sentences(result, 4)
        low, high = table.loc["+ good", ["low", "high"]]
        assert good == (
            f"+ good: better than originals by 0.0100 (95 % interval {low:.4f} to "
            f"{high:.4f}, 80 eras)."
        )
        low, high = table.loc["+ bad", ["low", "high"]]
        assert bad == (
            f"+ bad: worse than originals by 0.0100 (95 % interval {low:.4f} to "
            f"{high:.4f}, 80 eras)."
        )
        less = (scores["+ same"] - scores["originals"]).to_numpy()
        needed = eras_needed(less, 0.0005, overlap=4)
        assert 100 < needed < 1000
        about = round(needed, -1)
        assert same == (
            f"+ same: these 80 eras cannot tell (needs about {about:.0f} for .0005: "
            "half-width of the 95 % interval at this run's spread)."
        )
        assert gone == "+ gone: these 5 eras cannot tell (an interval needs 16)."
        told = ["better", "worse", "cannot tell", "too few eras"]
        assert list(verdicts(table).values()) == told

    def test_thousands_are_told_in_two_digits(self, made):
        [told] = sentences(with_gains(made, {"+ same": 0.0}, spread=0.03), 4)
        about = told.split("about ")[1].split(" for")[0]
        digits = about.replace(",", "")
        assert "," in about
        assert set(digits[2:]) == {"0"}

    def test_where_such_a_difference_would_show(self, made):
        result = with_gains(made, {"+ same": 0.0}, spread=0.0005)
        [told] = sentences(result, 4)
        interval = mean_interval(
            result.scores["+ same"] - result.scores["originals"], overlap=4
        )
        half = (interval.high - interval.low) / 2
        assert half < 0.0005
        assert told == (
            "+ same: these 80 eras cannot tell (but a difference of .0005 would show: "
            f"half-width of the 95 % interval {half:.4f})."
        )

    def test_the_text_ends_with_them(self, made):
        text = str(dataclasses.replace(made, notes=("A note.",)))
        first, second, third = sentences(made, 1)
        assert text.endswith(f"\n\nA note.\n\n{first}\n{second}\n{third}")
        assert first.startswith(f"+ {LONG}: ")
        assert second.startswith("+ pca: ")
        assert third.startswith("+ random: ")

    def test_no_arm_no_sentence(self, made):
        alone = made.differences.iloc[:0]
        text = str(dataclasses.replace(made, differences=alone))
        for sentence in sentences(made, 1):
            assert sentence in str(made)
            assert sentence not in text


class TestDeflated:
    def test_it_is_in_the_summary(self, made):
        expected = deflated_sharpe_ratio(made.scores, overlap=1)
        assert expected.between(0, 1).all()
        np.testing.assert_array_equal(made.summary["deflated_sharpe"], expected)
        columns = list(made.summary.columns)
        assert columns.index("deflated_sharpe") == columns.index("sharpe") + 1
        written = pd.read_parquet(made.experiment.folder / "summary.parquet")
        np.testing.assert_array_equal(written["deflated_sharpe"], expected)
        head = str(made).splitlines()[1]
        assert head.split()[2:4] == ["Sharpe", "deflated"]

    def test_too_few_eras_have_none(self, made):
        result = with_gains(made, {"+ a": 0.0}, n_eras=15)
        result = with_deflated_sharpe(result, 4)
        assert result.summary["deflated_sharpe"].isna().all()
        assert str(result).splitlines()[2].split()[4] == "-"

    def test_arms_that_do_not_vary_are_trials_without_one(self, made):
        result = with_gains(made, {"+ a": 0.001, "+ b": -0.001})
        scores = result.scores.assign(**{"+ none": np.nan})
        summary = summarize_scores(scores)
        result = dataclasses.replace(result, scores=scores, summary=summary)
        before = result.summary.copy()
        found = with_deflated_sharpe(result, 4).summary["deflated_sharpe"]
        expected = deflated_sharpe_ratio(scores.iloc[:, :3], overlap=4, n_trials=4)
        assert found.iloc[:3].tolist() == expected.tolist()
        assert np.isnan(found["+ none"])
        pd.testing.assert_frame_equal(result.summary, before)

    @pytest.mark.parametrize("arms", [["originals"], ["originals", "+ a"]])
    def test_one_arm_that_varies(self, made, arms):
        """Alone, it is compared with 0; beside another, the variance is unknown."""
        scores = with_gains(made, {"+ a": 0.0}).scores[arms]
        scores = scores.assign(**{arm: np.nan for arm in arms[1:]})
        summary = summarize_scores(scores)
        result = dataclasses.replace(made, scores=scores, summary=summary)
        found = with_deflated_sharpe(result, 4).summary["deflated_sharpe"]
        assert found.notna().tolist() == ([True] if len(arms) == 1 else [False] * 2)


class TestTables:
    def test_no_line_of_a_table_is_wider_than_100(self, made):
        text = str(made)
        tables = text[: text.index("\n\n+ a_very")].splitlines()
        rows = [line for line in tables if line.startswith(("+ ", "originals", " "))]
        assert len(rows) > 8
        assert max(map(len, rows)) <= 100
        assert sum("..." in line for line in rows) >= 3  # the arm, in each table

    def test_narrow_tables_are_one(self):
        table = pd.DataFrame({"mean": [0.1], "eras": [9.0]}, ["originals"])
        assert formatted(table).splitlines() == [
            "            mean eras",
            "originals 0.1000    9",
        ]

    def test_columns_stay_with_their_eras(self):
        names = ["mean", "Sharpe", "eras", "FNC", "FNC eras", "MMC", "model s"]
        table = pd.DataFrame(1.0, ["originals", "+ fa"], names)
        whole = formatted(table)
        width = max(map(len, whole.splitlines()))
        assert formatted(table, width) == whole
        assert len(whole.splitlines()) == 3
        tables = formatted(table, width - 1).split("\n\n")
        heads = [" ".join(part.splitlines()[0].split()) for part in tables]
        assert heads == ["mean Sharpe eras", "FNC FNC eras MMC model s"]
        heads = [
            " ".join(part.splitlines()[0].split())
            for part in formatted(table, 35).split("\n\n")
        ]
        assert heads == ["mean Sharpe eras", "FNC FNC eras MMC", "model s"]
        for part in formatted(table, 35).split("\n\n"):
            assert [line.split()[0] for line in part.splitlines()[1:]] == [
                "originals",
                "+",
            ]

    def test_numbers(self):
        table = pd.DataFrame(
            {"mean": [0.12345, np.nan], "low": ["too few eras", "x"], "model s": 61.25},
            index=["a", "b"],
        )
        assert formatted(table).splitlines() == [
            "    mean          low model s",
            "a 0.1235 too few eras    61.2",
            "b      -            x    61.2",
        ]

    def test_names_are_shortened_only_where_they_must(self):
        name = "+ " + "n" * 60
        table = pd.DataFrame({"mean": [0.1] * 2, "eras": 9.0}, ["originals", name])
        assert name in formatted(table)
        lines = formatted(table, 50).splitlines()
        assert max(map(len, lines)) == 50
        assert lines[2].startswith("+ nnn")
        assert "..." in lines[2]

    def test_shortened_names_are_distinct(self):
        names = [f"{LONG}{j}{LONG}" for j in range(12)]
        found = shortened(names, 30)
        assert len(set(found)) == 12
        assert max(map(len, found)) <= 30
        assert shortened(["short", "names"], 5) == ["short", "names"]
        assert [len(name) for name in shortened(names[:1], 3)] == [12]
