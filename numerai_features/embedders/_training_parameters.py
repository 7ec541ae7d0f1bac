"""The training parameters that all network embedders share, declared once.

`TrainingParameters` declares each of them as an annotated class attribute, with its
constraint and its paragraph. A subclass declares its own parameters likewise. It may
also change the default of a shared one, or make it a constant
(``n_models: ClassVar[int] = 1``). From these declarations the subclass gets an explicit
constructor (its own parameters first, then the shared ones), the constraints that
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
from numerai_features._warn import warn

_SECTION = re.compile(r"^(\w[\w ]*)\n-+\n", re.MULTILINE)
_ENTRY = re.compile(r"^(?=\w)", re.MULTILINE)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class TrainingParameters(BaseEstimator):
    """Training parameters shared by all network embedders.

    Parameters
    ----------
    validation : float, int, splitter or None, default=0.1
        Held-out data for early stopping. A float holds out the last share of the eras,
        an int the last n eras. The eras before them are purged: as many as the longest
        horizon in the names of y requires, else 16, but at least half of the eras
        remain for training; if labels are not used, at most as many as are held out.
        Without eras, or with fewer than 5 of them, a random share of the rows is held
        out; with fewer than 20 rows, none. A splitter: its last fold
        (``EraHoldout(0.2, purge=4)``). None: train on all rows, to the last epoch.
    patience : int, default=10
        Training stops after this many epochs without a better held-out result. None: it
        never stops early.
    batching : {"rows", "era"}, default="rows"
        Batches of random rows, or of all rows of one era. An era of fewer than 16 rows
        shares the batch of a neighbouring era.
    batch_size : int or "auto", default="auto"
        Largest number of rows in a batch, 2 or more; with 2, a single row left over
        joins a batch as its third. "auto": a fiftieth of the training rows, between 256
        and 4096.
    max_epochs : int, default=30
        Largest number of passes over the rows.
    learning_rate : float, default=0.003
        Largest learning rate of the schedule (AdamW).
    schedule : {"one-cycle", "constant"}, default="one-cycle"
        Learning rate over the steps. "one-cycle": it rises during the first 30 % of the
        steps, then falls to nearly 0.
    weight_decay : float, default=0.0
        Weight decay of the layers' matrices.
    clip_norm : float, default=None
        The gradient is scaled down to this norm where its norm is larger. None: no
        clipping.
    ema_decay : float, default=None
        Decay, near 1, of an exponential moving average of the weights over steps. The
        averaged weights are then evaluated and kept. None: no averaging.
    n_models : int, default=1
        Number of networks, each with its own seed. Their latents are concatenated.
    missing : {"middle", "raise"}, default="middle"
        "middle": NaN becomes the column's median learned in `fit`, 2 for bins, and
        is ignored in the loss. "raise": NaN is an error.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto": a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Precision of matrix products during training. "auto": bfloat16 on GPUs and CPUs
        (with AMX) that multiply it faster.
    n_jobs : int, default=None
        Number of threads. None and -1: all; below -1, counted back from all. "All" is
        limited by the physical cores, by affinity and cgroups, and by torch's own
        setting (``OMP_NUM_THREADS``, ``torch.set_num_threads``). The results do not
        depend on it.
    checkpoint : path, default=None
        Folder for training states; needs an int `random_state`. An interrupted fit that
        is called again with the same parameters and rows continues from the last state.
        A fit that completes removes its states.
    checkpoint_every : float, default=60
        Seconds between two states.
    keep_interrupted : bool, default=False
        Whether Ctrl-C leaves the embedder fitted, with each network's best weights so
        far, if all networks have completed an epoch. Otherwise the embedder stays as it
        was before the fit. KeyboardInterrupt is raised in both cases.
    log_dir : path, default=None
        Folder for TensorBoard logs.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights, the order of rows, and the noise. The same seed
        gives bit-identical latents on the same machine.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    encoder_ : Encoder
        The encoder that `transform` runs.
    history_ : list of dict
        One record per epoch: ``epoch``, ``learning_rate``, and lists with one number
        per network (NaN once it has stopped) for ``seconds``, ``train_loss`` and the
        held-out metrics, which begin with ``valid_``.
    best_epoch_ : ndarray of shape (n_models,)
        For each network, the epoch, counted from 1, whose weights it has.
    n_iter_ : int
        Number of epochs.
    missing_values_ : ndarray of shape (n_features,)
        The values that replace NaN.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit, None if no eras were given.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.
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
        # batch normalisation needs two rows
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
        """Turn the declarations of a class and its bases into a dataclass."""
        super().__init_subclass__(**kwargs)
        cls._declared = _own_annotations(cls)
        if abstract:
            return
        documented = vars(cls).get("__doc__") is not None
        bases = [c for c in cls.__mro__[::-1] if issubclass(c, TrainingParameters)]
        kinds: dict[str, Any] = {}
        for base in bases:  # the most derived class decides; a constant stays one
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
        for base in bases[:-1]:  # a parent's dataclass has replaced its field objects
            for parameter in vars(base).get("__dataclass_fields__", {}).values():
                if parameter.kw_only is False and parameter.name in kinds:
                    default = getattr(cls, parameter.name)
                    setattr(cls, parameter.name, field(default=default, kw_only=False))
        # Comparison, hash and repr are those of scikit-learn's estimators.
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        known: dict[str, Any] = {}
        for base in bases:
            known |= vars(base).get("_parameter_constraints", {})
        cls._parameter_constraints = {k: known[k] for k in order if k in known}
        cls.__doc__ = _with_shared_paragraphs(cls, order) if documented else None

    def _check_eras(self, eras: Any) -> None:
        """Warn if there are no eras, although batches should be eras."""
        if eras is None and self.batching == "era":
            warn(
                "No eras were passed: batching='era' uses batches of rows instead. "
                "Pass eras=, or a frame with a column 'era'.",
            )

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what identifies this estimator, its fitted state included.

        By default Dask compares only a dataclass's fields: two fits with equal
        parameters would be one task.
        """
        return type(self).__module__, type(self).__qualname__, vars(self)


TrainingParameters._declared = {
    name: kind
    for name, kind in inspect.get_annotations(TrainingParameters, eval_str=True).items()
    if not name.startswith("_")
}


def _own_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations of a class body; raise where one is no parameter."""
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
        f"or its value ({default!r}) is not valid for one. Leave the annotation out, "
        "make it a ClassVar, or give it another name."
    )


def _is_constant(kind: Any) -> bool:
    """Whether an annotation makes an attribute a class constant."""
    if isinstance(kind, str):
        return re.match(r"(\w+\.)*ClassVar\b", kind) is not None
    return kind is ClassVar or get_origin(kind) is ClassVar


def _with_shared_paragraphs(cls: type, names: list[str]) -> str | None:
    """Return a class's docstring with the shared paragraphs after its own."""
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
    """Return the text above the first title, and the text below each title."""
    above, *parts = _SECTION.split(doc)
    return above, dict(zip(parts[::2], parts[1::2], strict=True))


def _entries(section: str) -> dict[str, str]:
    """Return a section's entries, by their first name."""
    entries = [e.rstrip("\n") + "\n" for e in _ENTRY.split(section) if e.strip()]
    return {re.split(r"[\s,:]", e, maxsplit=1)[0]: e for e in entries}


def _with_default(entry: str, cls: type, name: str) -> str:
    """Return a paragraph with the class's default filled in."""
    default = getattr(cls, name)
    told = f'"{default}"' if isinstance(default, str) else repr(default)
    first, _, rest = entry.partition("\n")
    first = re.sub(r"default=.*", lambda _: f"default={told}", first)
    return f"{first}\n{rest}"
