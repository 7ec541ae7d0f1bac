"""The rooms of the house, and who may import whom: as the architecture page has it.

What is true of imports is read from the source of every module, those inside functions
and those for type checkers alone too. The table is read from the page itself, so that
neither can change without the other.
"""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "numerai_features"
PAGE = (ROOT / "docs" / "architecture.rst").read_text()

GROUND = "ground floor"
LONGEST = 450


class Import(NamedTuple):
    """One import of a module of ours, or of another's package."""

    by: str
    of: str
    at_the_top: bool


def modules():
    """Return every module's file by its name without ``numerai_features.``."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join(parts)] = file
    return found


MODULES = modules()


def imports_of(source, name):
    """Yield the imports of a module's source.

    At the top are those that run when the module itself is imported: not inside a
    function, and not for a type checker alone.
    """
    later = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(
            node.test
        )
        if checking or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            later.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [t if ours(t) in MODULES else node.module for t in inside]
        else:
            continue
        for target in targets:
            yield Import(name, ours(target) or target, node not in later)


def ours(target):
    """Return a module's name inside the package; None for another's.

    The package itself, of which only the version is asked, is ``"version"``.
    """
    first, _, rest = target.partition(".")
    return None if first != PACKAGE.name else rest or "version"


IMPORTS = [
    one for name, file in MODULES.items() for one in imports_of(file.read_text(), name)
]


def room_of(module):
    """Return the room of a module; None where it is not ours."""
    first = module.partition(".")[0]
    if module == "__main__":  # the command by another name
        return "cli"
    if module == "version" or (first.startswith("_") and first in MODULES):
        return GROUND
    return first if first in MODULES else None


def table_of(page):
    """Return what each room may import, from the page's table."""
    found = {}
    table = page.split(".. list-table:: Who imports whom")[1]
    for row in re.split(r"^   \* - ", table, flags=re.MULTILINE)[2:]:
        room, _, others = re.split(r"^     - ", row, flags=re.MULTILINE)
        others = others.split("\n\n")[0]
        [room] = re.findall(r"^``(\w+)``|^(?:the )?(ground floor)", room)
        found["".join(room)] = set(re.findall(r"``(\w+)``", others))
    return found


def circles(arrows):
    """Return circles of imports, one after the other is cut; none if there are none."""
    arrows = {name: set(others) for name, others in arrows.items()}
    found = []
    while True:
        try:
            TopologicalSorter(arrows).prepare()
        except CycleError as error:
            circle = error.args[1]  # each is imported by the next
            arrows[circle[1]].discard(circle[0])
            found.append(circle[::-1])
        else:
            return found


def test_every_room_is_on_the_page_and_imports_what_the_page_says():
    between = {}
    for by, of, _ in IMPORTS:
        here, there = room_of(by), room_of(of)
        if by and there not in (None, here, GROUND):
            between.setdefault((here, there), []).append(f"{by} imports {of}")
    told = table_of(PAGE)
    assert set(told) == {room_of(name) for name in MODULES if name}
    allowed = {(here, there) for here, others in told.items() for there in others}
    against = [
        one for pair, those in between.items() if pair not in allowed for one in those
    ]
    assert against == [], "not in the table of docs/architecture.rst"
    assert allowed - set(between) == set(), "in the table, but nobody does so"


def test_every_module_of_the_ground_floor_is_on_the_page():
    told = re.findall(r"^``(_\w+)``  ", PAGE, flags=re.MULTILINE)
    assert sorted(told) == sorted(n for n in MODULES if n and room_of(n) == GROUND)


@pytest.mark.parametrize(
    ("room", "known"),
    [
        ("nn", {"_blocks", "_sealed", "_threads", "_warn", "_whole"}),
        ("encoders", {"_blocks"}),
    ],
)
def test_networks_and_encoders_stand_on_little(room, known):
    ground = {of for by, of, _ in IMPORTS if room_of(by) == room}
    assert {of for of in ground if room_of(of) == GROUND} == known


def test_rooms_have_an_order():
    """Imports inside functions, too, go down from room to room."""
    told = table_of(PAGE)
    assert circles(told) == []
    order = list(told)  # of the page: from the roof to the ground
    for room, others in told.items():
        assert all(order.index(other) > order.index(room) for other in others), room


def test_no_module_imports_in_a_circle():
    arrows = {name: set() for name in MODULES}
    for by, of, at_the_top in IMPORTS:
        if at_the_top and of in MODULES:
            arrows[by].add(of)
    found = circles(arrows)
    n_imports = sum(map(len, arrows.values()))
    told = f"{len(found)} circles, {len(arrows)} modules, {n_imports} imports"
    print(told)
    assert found == [], told
    assert n_imports > 300, told


def test_circles_are_found():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"d"}, "e": {"a"}}
    assert sorted(map(len, circles(arrows))) == [2, 4]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_found_wherever_they_stand():
    source = (
        "from typing import TYPE_CHECKING\n"
        "from numerai_features import __version__\n"
        "from numerai_features.embedders import _axes as a, DAEEmbedder\n"
        "if TYPE_CHECKING:\n    from numerai_features.nn._task import Task\n"
        "def f():\n    import numerai_features._rows\n    import sklearn.base\n"
    )
    assert list(imports_of(source, "x")) == [
        ("x", "typing", True),
        ("x", "version", True),
        ("x", "embedders._axes", True),
        ("x", "embedders", True),
        ("x", "nn._task", False),
        ("x", "_rows", False),
        ("x", "sklearn.base", False),
    ]


# --- what single rooms know nothing of ---------------------------------------------

FRAMES_AND_FILES = {"sklearn", "pandas", "polars", "pyarrow", "narwhals"}


@pytest.mark.parametrize("room", ["encoders", "nn"])
def test_networks_and_encoders_know_nothing_of_frames_files_and_sklearn(room):
    asked = {of.partition(".")[0] for by, of, _ in IMPORTS if room_of(by) == room}
    assert not asked & FRAMES_AND_FILES
    # Nor do the modules that they lean on bring them in.
    names = [f"numerai_features.{name}" for name in MODULES if room_of(name) == room]
    program = f"import sys, {', '.join(names)}\nprint(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not set(loaded) & FRAMES_AND_FILES


def test_torch_is_imported_where_it_is_used():
    """Who only transforms needs no torch: its import waits inside functions."""
    tops = {
        by for by, of, at_the_top in IMPORTS if at_the_top and of.startswith("torch")
    }
    assert {room_of(name) for name in tops} == {"nn"}


DRAWS = {
    "rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial",
    "poisson", "normal_", "uniform_", "bernoulli_", "random_", "exponential_",
    "log_normal_", "cauchy_", "geometric_", "rand_like", "randn_like", "randint_like",
}  # fmt: skip
SEEDS = {"manual_seed", "manual_seed_all", "seed", "fork_rng", "set_rng_state"}


def global_draws(source):
    """Return the calls that draw from torch's global generator, or seed it."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        owner, _, name = ast.unparse(call.func).rpartition(".")
        named = {word.arg for word in call.keywords}
        draws = name in DRAWS and (owner == "torch" or name.endswith("_"))
        if draws and "generator" not in named and "out" not in named:
            found.append(ast.unparse(call))
        elif owner.split(".")[0] == "torch" and "(" not in owner and name in SEEDS:
            found.append(ast.unparse(call))
        elif owner in ("F", "nn.init") and name not in ("zeros_", "ones_"):
            if "drop" in name or owner == "nn.init":
                found.append(ast.unparse(call))
    return found


def test_torch_draws_from_generators_of_our_own():
    """The global one is the user's, and that of all threads: fits at once share it.

    Only for others' layers it is seeded, by one thread at a time, and restored.
    """
    found = {name: global_draws(file.read_text()) for name, file in MODULES.items()}
    assert {name: len(calls) for name, calls in found.items() if calls} == {
        "embedders._network": 2
    }
    for call in (
        "torch.randn(3)", "x.normal_(0, 1)", "torch.manual_seed(0)",
        "torch.random.fork_rng(devices=[])", "F.dropout(x)", "nn.init.uniform_(x)",
    ):  # fmt: skip
        assert global_draws(call) == [call]
    assert not global_draws("torch.Generator(device).manual_seed(3)")


@pytest.mark.parametrize("room", ["embedders", "experiment", "nn"])
def test_no_file_is_too_long_to_be_read_at_once(room):
    lengths = {
        name: len(file.read_text().splitlines())
        for name, file in MODULES.items()
        if room_of(name) == room
    }
    assert {n: length for n, length in lengths.items() if length > LONGEST} == {}
