"""The parameters of training, which every network embedder has, written once.

`TrainingParameters` declares each of them as an annotated class attribute, with its
constraint and its paragraph. A leaf is written likewise: its own parameters are
annotated attributes, and it may give a shared one another default, or make it a
constant (``n_models: ClassVar[int] = 1``). From that the leaf gets an explicit
constructor, first its own parameters and then the shared ones, the constraints that
scikit-learn checks in `fit`, and the paragraphs in its docstring.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, field
from os import PathLike
from typing import Any, ClassVar, dataclass_transform, get_origin

from sklearn.base import BaseEstimator

from numerai_features._arguments import (
    ABOVE_ZERO,
    COUNT,
    N_JOBS,
    NOT_NEGATIVE,
    SEED,
    SPLITTER,
    VERBOSE,
    Finite,
    Whole,
)
from numerai_features._compat import StrOptions

_SECTION = re.compile(r"^(\w[\w ]*)\n-+\n", re.MULTILINE)
_ENTRY = re.compile(r"^(?=\w)", re.MULTILINE)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class TrainingParameters(BaseEstimator):
    """What is the same for all networks.

    Parameters
    ----------
    validation : float, int, splitter or None, default=0.1
        What is held out to stop by: the last share of the eras, or the last so many.
        Eras before them are left out: as many as the longest target that a name of y
        tells is purged by, else 16, but no more than leave half of the eras to train
        on; where no labels are seen, no more than are held out. Without eras, or with
        fewer than 5 of them, a random share of the rows; of fewer than 20 rows none. Or
        a splitter, whose last fold is taken (``EraHoldout(0.2, purge=4)``). None: train
        on all rows, to the last epoch.
    patience : int, default=10
        Epochs without a better result on what is held out until training stops. None:
        never.
    batching : {"rows", "era"}, default="rows"
        Batches of random rows, or of all rows of one era; eras of fewer than 16 rows
        share the batch of an era beside them.
    batch_size : int or "auto", default="auto"
        Most rows a batch, 2 or more; of 2, one that would be left alone is a third.
        "auto": a fiftieth of the training rows, between 256 and 4096.
    max_epochs : int, default=30
        Most passes over the rows.
    learning_rate : float, default=0.003
        Of AdamW; the largest of the schedule.
    schedule : {"one-cycle", "constant"}, default="one-cycle"
        "one-cycle": up within 30 % of the steps, then down to nearly nothing.
    weight_decay : float, default=0.0
        Of the layers' matrices.
    clip_norm : float, default=None
        Largest norm of the gradient.
    ema_decay : float, default=None
        Decay, near 1, of an exponential moving average of the weights over steps,
        which is then what is judged and kept.
    n_models : int, default=1
        Networks of other seeds, whose latents stand side by side.
    missing : {"middle", "raise"}, default="middle"
        NaN becomes the column's median learned in `fit` (bin 2 for int8), and counts
        in no loss; or it is an error.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto": a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        What matrix products are made in while training. "auto": bfloat16 on GPUs and
        CPUs (with AMX) that multiply it faster.
    n_jobs : int, default=None
        Threads; below zero counted back from all, None and -1 are all: no more than the
        physical cores, what affinity and cgroups allow of them, and what torch has
        (``OMP_NUM_THREADS``, ``torch.set_num_threads``). It changes no result.
    checkpoint : path, default=None
        Folder for training states; needs an int `random_state`. A fit that was cut
        off, and is called again with the same parameters and rows, goes on from the
        last one; a fit that ends removes it.
    checkpoint_every : float, default=60
        Seconds between two states.
    keep_interrupted : bool, default=False
        Whether Ctrl-C leaves the embedder fitted, with each network's best weights so
        far, once all of them have an epoch behind them. KeyboardInterrupt is raised
        all the same; else the embedder is then as it was before the fit.
    log_dir : path, default=None
        Folder for TensorBoard.
    random_state : int, RandomState or None, default=None
        Seed of weights, order and draws. The same seed gives the same latents to the
        bit on the same machine.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    encoder_ : Encoder
        What `transform` runs.
    history_ : list of dict
        A record an epoch: ``epoch``, ``learning_rate``, and a list with a number for
        each network (NaN once it has stopped) of ``seconds``, ``train_loss`` and the
        metrics of what is held out, which begin with ``valid_``.
    best_epoch_ : ndarray of shape (n_models,)
        The epoch, from 1, whose weights each network has.
    n_iter_ : int
        Number of epochs.
    missing_values_ : ndarray of shape (n_features,)
        What stands in for NaN.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit, None if no eras were given.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.
    """

    validation: Any = 0.1
    patience: int | None = 10
    batching: str = "rows"
    batch_size: int | str = "auto"
    max_epochs: int = 30
    learning_rate: float = 0.003
    schedule: str = "one-cycle"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    n_models: int = 1
    missing: str = "middle"
    device: str = "auto"
    precision: str = "auto"
    n_jobs: int | None = None
    checkpoint: Any = None
    checkpoint_every: float = 60
    keep_interrupted: bool = False
    log_dir: Any = None
    random_state: Any = None
    verbose: int = 0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "validation": [
            Finite(0, 1, "neither"),
            COUNT,
            SPLITTER,
            None,
        ],
        "patience": [COUNT, None],
        "batching": [StrOptions({"rows", "era"})],
        # batch normalisation makes nothing of one row
        "batch_size": [Whole(2), StrOptions({"auto"})],
        "max_epochs": [COUNT],
        "learning_rate": [ABOVE_ZERO],
        "schedule": [StrOptions({"one-cycle", "constant"})],
        "weight_decay": [NOT_NEGATIVE],
        "clip_norm": [ABOVE_ZERO, None],
        "ema_decay": [Finite(0, 1, "neither"), None],
        "n_models": [COUNT],
        "missing": [StrOptions({"middle", "raise"})],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "n_jobs": N_JOBS,
        "checkpoint": [str, PathLike, None],
        "checkpoint_every": [NOT_NEGATIVE],
        "keep_interrupted": ["boolean"],
        "log_dir": [str, PathLike, None],
        "random_state": SEED,
        "verbose": VERBOSE,
    }

    _declared: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        """Make a leaf of what the bodies of a class and of its bases declare."""
        super().__init_subclass__(**kwargs)
        cls._declared = _own_annotations(cls)
        if abstract:
            return
        documented = vars(cls).get("__doc__") is not None
        bases = [c for c in cls.__mro__[::-1] if issubclass(c, TrainingParameters)]
        kinds: dict[str, Any] = {}
        for base in bases:  # the nearest class decides; a constant stays one
            for name, kind in base._declared.items():
                kinds.pop(name, None)
                if not _is_constant(kind):
                    kinds[name] = kind
        shared = TrainingParameters._declared
        order = [
            *(k for k in kinds if k not in shared),
            *(k for k in shared if k in kinds),
        ]
        constants = {k: v for k, v in cls._declared.items() if _is_constant(v)}
        cls.__annotations__ = {**constants, **{name: kinds[name] for name in order}}
        for base in bases[:-1]:  # a parent's dataclass has made values of its fields
            for parameter in vars(base).get("__dataclass_fields__", {}).values():
                if parameter.kw_only is False and parameter.name in kinds:
                    default = getattr(cls, parameter.name)
                    setattr(cls, parameter.name, field(default=default, kw_only=False))
        # Compared, hashed and shown as scikit-learn's estimators are.
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        known: dict[str, Any] = {}
        for base in bases:
            known |= vars(base).get("_parameter_constraints", {})
        cls._parameter_constraints = {k: known[k] for k in order if k in known}
        cls.__doc__ = _with_shared_paragraphs(cls, order) if documented else None

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what tells this estimator from others, its fitted state included.

        Dask would look at a dataclass's fields alone: two fits with equal parameters
        would be one task.
        """
        return type(self).__module__, type(self).__qualname__, vars(self)


TrainingParameters._declared = {
    name: kind
    for name, kind in inspect.get_annotations(TrainingParameters, eval_str=True).items()
    if not name.startswith("_")
}


def _own_annotations(cls: type) -> dict[str, Any]:
    """Return what a class body annotates, as types; raise where one is no parameter."""
    try:
        own = inspect.get_annotations(cls, eval_str=True)
    except NameError:  # names that only a type checker imports
        own = inspect.get_annotations(cls)
    own = {
        name: ClassVar[Any] if _is_constant(kind) else kind
        for name, kind in own.items()
    }
    for name, kind in own.items():
        default = getattr(cls, name, MISSING)
        told = name.startswith("_") or name.endswith("_") or inspect.isroutine(default)
        if told and not _is_constant(kind):
            raise _no_parameter(cls, name, default)
    for name in TrainingParameters._declared:
        if inspect.isroutine(vars(cls).get(name)):
            raise _no_parameter(cls, name, vars(cls)[name])
    return own


def _no_parameter(cls: type, name: str, default: Any) -> TypeError:
    return TypeError(
        f"{cls.__name__}.{name} is annotated, which makes it a parameter, but its name "
        f"or its value ({default!r}) is no parameter's. Leave the annotation out, make "
        "it a ClassVar, or give it another name."
    )


def _is_constant(kind: Any) -> bool:
    """Whether an annotation says that an attribute is the class's."""
    if isinstance(kind, str):
        return re.match(r"(\w+\.)*ClassVar\b", kind) is not None
    return kind is ClassVar or get_origin(kind) is ClassVar


def _with_shared_paragraphs(cls: type, names: list[str]) -> str | None:
    """Return a class's docstring with the shared paragraphs behind its own."""
    doc, own_sections = _sections(inspect.getdoc(cls) or "")
    _, shared_sections = _sections(inspect.getdoc(TrainingParameters) or "")
    merged = {}
    for title, text in shared_sections.items():
        told, shared = _entries(own_sections.pop(title, "")), _entries(text)
        own = [entry for name, entry in told.items() if name not in shared]
        rest = {name: told.get(name, entry) for name, entry in shared.items()}
        if title == "Parameters":
            rest = {k: _with_default(rest[k], cls, k) for k in rest if k in names}
        merged[title] = "".join([*own, *rest.values()]) + "\n"
    doc = doc.rstrip("\n") + "\n\n"
    for title, text in {**merged, **own_sections}.items():
        doc += f"{title}\n{'-' * len(title)}\n{text}"
    return doc


def _sections(doc: str) -> tuple[str, dict[str, str]]:
    """Return what stands above the first title, and the text below each title."""
    above, *parts = _SECTION.split(doc)
    return above, dict(zip(parts[::2], parts[1::2], strict=True))


def _entries(section: str) -> dict[str, str]:
    """Return a section's entries, by their first name."""
    entries = [e.rstrip("\n") + "\n" for e in _ENTRY.split(section) if e.strip()]
    return {re.split(r"[\s,:]", e, maxsplit=1)[0]: e for e in entries}


def _with_default(entry: str, cls: type, name: str) -> str:
    """Return a paragraph with the default that the class has."""
    default = getattr(cls, name)
    told = f'"{default}"' if isinstance(default, str) else repr(default)
    first, _, rest = entry.partition("\n")
    first = re.sub(r"default=.*", lambda _: f"default={told}", first)
    return f"{first}\n{rest}"
