"""Where in a pipeline an estimator is met, and who translates it.

Translators make plain data of fitted estimators. They are looked up by the library and
the name of the class, so that no library is imported for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from inspect import getattr_static
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from numerai_features._names import some_names

Translator = Callable[[Any, "Place"], dict[str, Any]]

_INSTEAD = {
    "CatBoostRegressor": "make_lightgbm or make_xgboost",
    "FactorAnalysis": "FactorAnalysisEmbedder",
    "MLPRegressor": "EraMLP or SupervisedAEMLP",
    "ParametricUMAP": "UMAPEmbedder",
    "TruncatedSVD": "PCA",
    "UMAP": "UMAPEmbedder",
}
_TREES = ("Boosting", "Forest", "DecisionTree", "ExtraTree", "Bagging")
_OF_FITTING = {
    *vars(type("Empty", (), {})), "__annotations__", "__firstlineno__", "__init__",
    "__repr__", "__sklearn_tags__", "__static_attributes__", "_abc_impl",
    "__abstractmethods__", "_parameter_constraints",
    "_sklearn_auto_wrap_output_keys", "__slots__", "_get_doc_link",
    "_repr_html_", "_repr_mimebundle_", "fit", "fit_transform", "fit_predict",
    "get_params", "partial_fit", "score", "set_params", "set_fit_request",
    "set_predict_request", "set_score_request", "set_transform_request",
    "set_partial_fit_request",
}  # fmt: skip
"""What a subclass may define without predicting otherwise."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The translators of transformers, models and densities, by library and class."""

    transformers: Mapping[str, Translator]
    models: Mapping[str, Translator]
    densities: Mapping[str, Translator]


@dataclass(frozen=True, eq=False)
class Place:
    """The place of an estimator in a pipeline, and the columns that reach it.

    Attributes
    ----------
    tables : Tables
    image : Image
        What the exported file must run in.
    trees : {"library", "numpy"}
        What evaluates trees.
    names : list of str
        Names of the columns that reach the estimator.
    eras : bool
        Whether the eras of the rows reach it.
    path : tuple of str
        The parts of the pipeline around it, for messages.
    """

    tables: Tables
    image: Any
    trees: str
    names: list[str]
    eras: bool = True
    path: tuple[str, ...] = ()

    def inside(self, part: str, *, eras: bool = True) -> Place:
        """Return the place of a part, which gets the same columns."""
        return replace(self, path=(*self.path, part), eras=self.eras and eras)

    def given(self, eras: bool) -> Place:
        """Return the same place; eras reach it only if they reach its parts, too."""
        return replace(self, eras=self.eras and eras)

    def behind(self, transformer: Any, width: int) -> Place:
        """Return the place behind a transformer, which gets the columns it returns."""
        try:
            names = [str(n) for n in transformer.get_feature_names_out(self.names)]
        except AttributeError:  # a part of it gives no names, or hands them on
            hands_on = type(transformer).__name__ == "FunctionTransformer"
            names = self.names if hands_on else [f"x{j}" for j in range(width)]
        known = getattr(transformer, "_fitted_with", transformer)
        keeps = bool(getattr(known, "keep_era", False))
        names = names[1:] if keeps else names
        return replace(self, names=names, eras=self.eras and keeps)

    def selecting(self, columns: list[int]) -> Place:
        """Return the same place for some of the columns."""
        return replace(self, names=[self.names[j] for j in columns])

    def transformer(self, estimator: Any) -> dict[str, Any]:
        """Return a fitted transformer as plain data."""
        return self._translate(estimator, self.tables.transformers, "a transformer")

    def model(self, estimator: Any) -> dict[str, Any]:
        """Return a fitted regressor as plain data."""
        return self._translate(estimator, self.tables.models, "a model")

    def density(self, estimator: Any) -> dict[str, Any]:
        """Return the ``score_samples`` of a fitted estimator as plain data."""
        return self._translate(estimator, self.tables.densities, "an autoencoder")

    def refuse(self, problem: str, *, kind: type[Exception] = ValueError) -> Exception:
        """Return the error of what cannot be exported; it tells where that is."""
        where = " > ".join(self.path)
        return kind(f"pipeline{where and f' ({where})'}: {problem}")

    def _translate(
        self, estimator: Any, table: Mapping[str, Translator], role: str
    ) -> dict[str, Any]:
        translator = self._translator_of(estimator, table, role)
        if hasattr(estimator, "fit"):
            check_is_fitted(estimator)
        self._check_columns(estimator)
        return translator(estimator, self)

    def _translator_of(
        self, estimator: Any, table: Mapping[str, Translator], role: str
    ) -> Translator:
        kind = type(estimator)
        for parent in kind.__mro__:
            translator = table.get(key_of(parent))
            if translator is None:
                continue
            method = next(_methods_of_its_own(estimator, kind, parent), None)
            if method is not None:
                raise self.refuse(
                    f"{kind.__name__} is a {parent.__name__} with a {method} of "
                    f"its own, which cannot be exported. Use a {parent.__name__}.",
                    kind=TypeError,
                )
            return translator
        known = sorted({name.partition(".")[2] for name in table})
        raise self.refuse(
            f"{kind.__name__} cannot be exported as {role}. "
            f"{_instead_of(kind.__name__)}These can be: {', '.join(known)}.",
            kind=TypeError,
        )

    def _check_columns(self, estimator: Any) -> None:
        """Raise if an estimator was fitted to other columns than reach it."""
        if type(estimator).__module__.startswith("lightgbm"):
            own = None  # it renames columns
        else:
            own = getattr(estimator, "feature_names_in_", None)
        if own is None:
            width = getattr(estimator, "n_features_in_", len(self.names))
            if width != len(self.names):
                raise self.refuse(
                    f"{type(estimator).__name__} was fitted to {width} columns, but "
                    f"{len(self.names)} reach it here: "
                    f"{some_names(self.names)}. Is one of them the era?"
                )
        elif list(own) != self.names:
            odd = [n for n in own if n not in set(self.names)] or list(own)
            raise self.refuse(
                f"{type(estimator).__name__} was fitted to other columns, or in "
                f"another order, than reach it here: {some_names(odd)}. Fit it to the "
                "features alone, without the column era."
            )


def _methods_of_its_own(estimator: Any, kind: type, parent: type) -> Iterator[str]:
    """Yield the methods that an estimator has in the place of its parent's."""
    for name in vars(estimator):
        if callable(getattr_static(parent, name, None)):
            yield name
    for between in kind.__mro__[: kind.__mro__.index(parent)]:
        for name in vars(between):
            if name not in _OF_FITTING and hasattr(parent, name):
                yield name


def is_left_out(step: Any) -> bool:
    """Whether a step of a pipeline hands its columns on."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def takes_era_out(estimator: Any) -> bool:
    """Whether an estimator takes a column "era" for eras, and not for a feature."""
    if isinstance(estimator, FrozenEstimator):
        return takes_era_out(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return takes_era_out(estimator.best_estimator_)
    if hasattr(estimator, "steps"):
        steps = [step for _, step in estimator.steps if not is_left_out(step)]
        return takes_era_out(steps[0])
    parts = getattr(estimator, "estimators_", None)
    if hasattr(estimator, "transformer_list"):
        parts = [part for _, part in estimator.transformer_list if part != "drop"]
    library = type(estimator).__module__.partition(".")[0]
    if library == "sklearn" and isinstance(parts, list):
        return all(not is_left_out(part) and takes_era_out(part) for part in parts)
    return library == "numerai_features"


def key_of(kind: type) -> str:
    """Return the library and the name of a class, as the tables have them."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def array_data(array: Any) -> dict[str, Any]:
    """Return an array as its bytes, dtype and shape."""
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {
        "bytes": array.tobytes(),
        "dtype": array.dtype.str,
        "shape": [int(n) for n in array.shape],
    }


def plain_ints(numbers: NDArray[np.integer]) -> list[int]:
    """Return positions as a list of Python's integers."""
    return [int(n) for n in numbers]


def nodes_of(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict of nested plain data."""
    if isinstance(node, dict):
        yield node
        for part in node.values():
            yield from nodes_of(part)
    elif isinstance(node, list):
        for part in node:
            yield from nodes_of(part)


def _instead_of(name: str) -> str:
    instead = _INSTEAD.get(name)
    if instead is None and any(part in name for part in _TREES):
        instead = "make_lightgbm or make_xgboost"
    return "" if instead is None else f"Use {instead} instead. "
