"""What is written: the code on the pages runs, and docstrings say what is true."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from threadpoolctl import threadpool_limits

import numerai_features
from numerai_features.cli import main
from numerai_features.cli._commands import COMMANDS
from numerai_features.cli._main import _make_parser
from numerai_features.datasets import make_era_panel
from numerai_features.experiment import Experiment
from numerai_features.experiment._zoo import zoo

ROOT = Path(__file__).resolve().parents[1]
README, AGENTS = ROOT / "README.md", ROOT / "AGENTS.md"
PAGES = [README, AGENTS, *sorted((ROOT / "docs").glob("*.rst"))]
NUMERAIS_NAMES = {
    "target_alpha_20": "target_cyrusd_20",
    "target_alpha_60": "target_cyrusd_60",
    "target_bravo_20": "target_ender_20",
    "target_bravo_60": "target_ender_60",
}


# --- the code on the pages ---------------------------------------------------------


def blocks(page, language):
    """Return the blocks of a language, each with the number of its first line."""
    lines = page.read_text().splitlines()
    if page.suffix == ".md":
        opening, inside = f"```{language}", lambda line: line != "```"
    else:
        opening = f".. code-block:: {language}"
        inside = lambda line: not line or line.startswith(" ")  # noqa: E731
    found = []
    for i, line in enumerate(lines):
        if line == opening:
            rest = lines[i + 1 :]
            end = next((j for j, at in enumerate(rest) if not inside(at)), len(rest))
            found.append((i + 2, textwrap.dedent("\n".join(rest[:end])) + "\n"))
    return found


def with_blocks(language):
    pages = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


@pytest.fixture(scope="session")
def download(tmp_path_factory):
    """A folder of files as Numerai writes them, with synthetic rows."""
    folder = tmp_path_factory.mktemp("v5.3")
    panel = make_era_panel(n_eras=64, rows_per_era=60, n_features=40, random_state=1)
    frame = panel.to_frame().rename(columns=NUMERAIS_NAMES)
    frame["target"] = frame["target_ender_60"]
    for name, first, last in (("train", 1, 40), ("validation", 41, 64)):
        between = frame["era"].astype(int).between(first, last)
        frame[between].to_parquet(folder / f"{name}.parquet")
        others = frame.loc[between, ["era"]].assign(
            v53_lgbm_ender20=0.5, v53_lgbm_ender60=0.5
        )
        others.to_parquet(folder / f"{name}_benchmark_models.parquet")
    others = others[["era"]].assign(numerai_meta_model=0.5)
    others.to_parquet(folder / "meta_model.parquet")
    live = frame[frame["era"] == "0064"].assign(era="X")
    live.to_parquet(folder / "live.parquet")
    sets = {"small": panel.feature_names[:10], "medium": panel.feature_names[:30]}
    sets["all"] = panel.feature_names
    targets = ["target", *NUMERAIS_NAMES.values()]
    (folder / "features.json").write_text(
        json.dumps({"feature_sets": sets, "targets": targets})
    )
    return folder


@pytest.fixture
def folder(download, tmp_path, monkeypatch):
    """A working folder of a page's own, with the files in it."""
    for file in download.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")  # pages import from there
    # Small tables: threads that wait for each other would take most of the time.
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # what LightGBM looks at
    with threadpool_limits(1):
        yield tmp_path


# LightGBM tells of its own default on the page on clusters.
@pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored")
@with_blocks("python")
def test_python_blocks_run(page, folder):
    namespace = {"__name__": page.stem}
    for line, code in blocks(page, "python"):
        # The empty lines in front make a traceback name the line of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


@with_blocks("toml")
def test_experiment_files_are_accepted(page, folder):
    for _, text in blocks(page, "toml"):
        (folder / "experiment.toml").write_text(text)
        Experiment.from_file(folder / "experiment.toml")


@with_blocks("console")
def test_commands_exist(page, capsys):
    for _, text in blocks(page, "console"):
        for line in re.findall(r"^\$ numerai-features (.+)$", text, re.MULTILINE):
            command, *arguments = shlex.split(line)
            with pytest.raises(SystemExit) as end:
                main(["--help"] if command.startswith("-") else [command, "--help"])
            assert end.value.code == 0
            told = capsys.readouterr().out
            assert all(a in told for a in arguments if a.startswith("-"))
            if "--help" not in line:
                _make_parser().parse_args([command, *arguments])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_escapes_the_tests(page):
    text = page.read_text()
    if page.suffix == ".md":
        languages = re.findall(r"^ *```(.*)\n(?:.*\n)*?^ *```$", text, re.MULTILINE)
    else:
        languages = re.findall(r"^ *\.\. code-block:: *(.*)$", text, re.MULTILINE)
        assert not re.search(r"^(?!\s*\.\.).*::$", text, re.MULTILINE)
        assert ">>>" not in text
    assert set(languages) <= {"python", "toml", "console", "bash", "text"}


@pytest.mark.parametrize("page", [README, AGENTS], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_page_on_commands_names_each_one_and_each_experiment():
    text = (ROOT / "docs" / "commands.rst").read_text()
    listed = re.findall(r"^``([a-z][a-z-]*)``  +\S", text, re.MULTILINE)
    assert sorted(listed) == sorted([*COMMANDS, *zoo()])


@pytest.mark.parametrize("page", [AGENTS, ROOT / "docs" / "commands.rst"])
def test_exit_statuses_are_those_of_help(page, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = dict(re.findall(r"^  (\d+) +(\w.+)$", capsys.readouterr().out, re.MULTILINE))
    rows = dict(
        re.findall(
            r"^(?:\| )?(\d+)(?:, 143)?[ |]+(\w[^|\n]+)", page.read_text(), re.MULTILINE
        )
    )
    assert rows.keys() == told.keys()
    for status in "01234":
        assert rows[status].strip() == told[status]


# --- what is told elsewhere --------------------------------------------------------


def test_readme_names_every_target_of_the_makefile():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    missing = [t for t in phony[1].split() if f"`make {t}`" not in README.read_text()]
    assert missing == []


def test_changelog_names_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    unreleased = text.split("## [Unreleased]")[1].split("\n## [")[0]
    released = re.findall(r"^## \[(\d[^]]*)\]", text, re.MULTILINE)
    version = numerai_features.__version__
    if ".dev" in version:
        assert version in unreleased
    else:
        assert released[0] == version


def test_contributing_names_guards_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 10
    for file, test in named:
        assert (ROOT / file).exists(), file
        assert not test or re.search(
            rf"^ *(def|class) {test}\b", (ROOT / file).read_text(), re.MULTILINE
        ), (file, test)


def test_every_extra_of_the_readme_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"numerai-features\[([\w,]+)\]", README.read_text())
    assert named
    for extras in named:
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


# --- the API page ------------------------------------------------------------------


def public_names():
    for subpackage in numerai_features._SUBPACKAGES:
        name = f"numerai_features.{subpackage}"
        for public in importlib.import_module(name).__all__:
            yield f"{name}.{public}"


def test_api_page_names_everything_public_once():
    text = (ROOT / "docs" / "api.rst").read_text()
    listed, module = [], ""
    for line in text.splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split(":: ")[1]
        elif re.fullmatch(r"   [A-Za-z_]\w*", line):
            listed.append(f"{module}.{line.strip()}")
    assert sorted(listed) == sorted(public_names())


# --- docstrings against signatures -------------------------------------------------


def documented():
    """Return every public class, function and method of our own, by its full name."""
    found = {}
    for name in public_names():
        module, public = name.rsplit(".", 1)
        value = getattr(importlib.import_module(module), public)
        found[name] = value
        if inspect.isclass(value):
            for method, member in inspect.getmembers(value, inspect.isroutine):
                # scikit-learn's own methods, set_fit_request and such too, are its.
                home = getattr(member, "__module__", None) or ""
                if home.startswith("numerai_features") and not method.startswith("_"):
                    found[f"{name}.{method}"] = member
    return found


DOCUMENTED = documented()


def signature_of(value):
    parameters = inspect.signature(value).parameters.values()
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {stars.get(p.kind, "") + p.name: p for p in parameters if p.name != "self"}


def sections_of(value):
    if not inspect.isclass(value):
        return FunctionDoc(value)
    return ClassDoc(value, config={"show_class_members": False})


def entries_of(value):
    """Yield (name, its type, its default, its text) of all documented parameters.

    A method without a section tells its parameters in its one line, in backticks.
    """
    sections = sections_of(value)
    entries = sections["Parameters"]
    if inspect.isroutine(value) and not entries and not sections["Extended Summary"]:
        line = " ".join(sections["Summary"])
        for name, parameter in signature_of(value).items():
            if f"`{name}`" in line and parameter.default is parameter.empty:
                yield name, "", None, line
    if dataclasses.is_dataclass(value) and not entries:
        entries = sections["Attributes"]
    for entry in entries:
        names = entry.name.split(", ")
        default = re.search(r"\bdefault=(.+)$", entry.type)
        values = [None] * len(names)
        if default:
            values = default[1].split(", ") if len(names) > 1 else [default[1]]
            values *= len(names) if len(values) == 1 else 1
        for name, told in zip(names, values, strict=True):
            yield name, entry.type, told, " ".join(entry.desc)


@pytest.mark.parametrize("name", DOCUMENTED)
class TestDocstrings:
    def test_parameters_are_those_of_the_signature_in_order(self, name):
        value = DOCUMENTED[name]
        if inspect.isclass(value) and issubclass(value, Exception):
            pytest.skip("takes a message")
        told = [entry[0] for entry in entries_of(value)]
        assert told == list(signature_of(value))

    def test_defaults_are_those_of_the_signature(self, name):
        value = DOCUMENTED[name]
        if inspect.isclass(value) and issubclass(value, Exception):
            pytest.skip("takes a message")
        signature = signature_of(value)
        for parameter, kind, told, text in entries_of(value):
            default = signature[parameter].default
            if default is inspect.Parameter.empty:
                assert told is None, parameter
            elif told is not None:
                assert ast.literal_eval(told) == default, parameter
            else:  # told where they are told in full
                assert kind == "Ignored" or (not kind and "s in `" in text), parameter

    def test_what_comes_back_is_told(self, name):
        value = DOCUMENTED[name]
        sections = sections_of(value)
        assert sections["Summary"]
        assert sections["Summary"][-1].rstrip().endswith((".", ":", '".'))
        if not inspect.isroutine(value):
            return
        annotation = inspect.signature(value).return_annotation
        returns = annotation not in (None, "None", inspect.Signature.empty)
        if returns and sections["Parameters"]:
            assert sections["Returns"] or sections["Yields"]
