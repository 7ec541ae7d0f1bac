"""All tests and benchmarks that need a GPU, in less than nine minutes, in one table.

    python benchmarks/gpu.py [--wheels FOLDER] [--rehearse]

For a bare machine with a GPU, a Python and torch with CUDA, and no package registry.
What else is needed, `gpu.txt`, is there already, or is installed into a temporary
folder from wheels that were carried along (CONTRIBUTING tells how).

The parts run one after the other, each for so many seconds at most: the tests marked
``gpu``; `training.py` and `supervised.py`, in float32 and bfloat16, with five networks
at once against five in a row; `umap_embedder.py`. What they print is shown as it comes.
The table at the end has the card, versions, the tests, and the ratios. A part that
fails or is too slow is told there, does not keep the others from running, and makes the
exit status 1. On a machine without a GPU the script says so, and exits with 0.

``--rehearse`` runs the parts on a CPU, each as small as it can be: so it can be seen
that the script works before a GPU is at hand. Its ratios mean nothing.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SECONDS = 520  # for all parts
SMALL = ["--features", "16", "--epochs", "1", "--repeats", "1"]


@dataclass
class Part:
    """Something to run, and what came of it."""

    name: str
    limit: float  # seconds
    command: list
    output: str = ""
    seconds: float = 0.0
    problem: str = ""

    def run(self, environment):
        """Run to the end or the limit; show the output as it comes, and keep it."""
        print(f"\n##### {self.name}, at most {self.limit:.0f} s\n", flush=True)
        start = time.monotonic()
        with subprocess.Popen(
            [sys.executable, *map(str, self.command)], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT,
            start_new_session=True,
        ) as process:  # fmt: skip
            timer = threading.Timer(self.limit, self._end, [process])
            timer.start()
            try:
                for line in process.stdout:
                    self.output += line
                    print(line, end="", flush=True)
                status = process.wait()
            except KeyboardInterrupt:
                self._end(process)
                raise
            finally:
                timer.cancel()
        self.seconds = time.monotonic() - start
        if status and not self.problem:
            self.problem = f"exit status {status}"

    def _end(self, process):
        """End the process, and what it has started."""
        self.problem = f"not done after {self.limit:.3g} s"
        os.killpg(process.pid, signal.SIGKILL)


def parts_of(report, peers, rehearse):
    """Return what to run; the tests write what they came to into `report`."""
    arms = ["eager", "DataLoader", "models", "products", "noise"]
    arms += ["skorch"] if "skorch" in peers else []
    tests = ["-m", "pytest", "-m", "gpu", f"--junitxml={report}", *files_of_tests()]
    training = [HERE / "training.py", "--arms", *arms]
    supervised = [HERE / "supervised.py"]
    umap = [HERE / "umap_embedder.py", "--repeats", 1, "--growth", "--sizes"]
    if rehearse:
        training += ["--rows", 9000, *SMALL]
        supervised += ["--rows", 5000, *SMALL]
        umap += [3200, "--set", "max_epochs=2"]
    else:
        umap += [20_000]
    return [
        Part("tests", 130, tests),
        Part("training", 170, training),
        Part("supervised", 120, supervised),
        Part("umap_embedder", 170, umap),
    ]


def files_of_tests():
    """Return the files with tests marked ``gpu``: others import what is not needed."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [file for file in files if "pytest.mark.gpu" in file.read_text()]


def read_tests(report, rehearse):
    """Return what the tests came to, and what is wrong with it."""
    if not report.exists():
        return "", "no tests were run"
    [suite] = ET.parse(report).getroot().iter("testsuite")
    names = ("tests", "failures", "errors", "skipped")
    n, failures, errors, skipped = (int(suite.get(name)) for name in names)
    passed = n - failures - errors - skipped
    told = f"{passed} passed, {failures + errors} failed, {skipped} skipped"
    good = passed and not failures and not errors and not skipped
    return told, "" if good or rehearse else "not all passed"


def read_ratios(output):
    """Return (what, ratios) for each line of a benchmark that has ratios to ours."""
    found, network = [], ""
    for line in output.splitlines():
        if line.startswith("== "):
            network = line[3:] + ": "
        elif row := re.fullmatch(
            r"(.{28}) *[\d,]+ +([\d.]+) +([\d.]+) +([\d.]+)", line
        ):
            arm, ratio, least, most = row.groups()
            told = f"{ratio} x the time of ours ({least} to {most})"
            found.append((network + arm.strip(), told))
        elif row := re.fullmatch(r"(\d+ models .+): (.+)", line):
            found.append((network + row[1], row[2]))
        elif row := re.fullmatch(r"([\d,]+ x [\d,]+) +[\d.]+ +[\d.]+ +([\d.]+)", line):
            found.append((f"noise, {row[1]}", f"by gather {row[2]} x the time of ours"))
        elif row := re.fullmatch(r"  (.+): (fit .+x, transform .+x)", line):
            found.append((row[1], f"{row[2]} the time of ours"))
    return found


def packages():
    """Return the packages that are needed, and those that are peers."""
    text = (HERE / "gpu.txt").read_text()
    groups = text.split("# Peers")
    return [
        [line for line in group.splitlines()[1:] if line.strip()] for group in groups
    ]


def lacking(names, environment):
    """Return those of some packages that are not installed."""
    program = (
        "import sys\n"
        "from importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        version(name)\n"
        "    except PackageNotFoundError:\n"
        "        print(name)\n"
    )
    return ask(program, *names, environment=environment).split()


def ask(program, *arguments, environment):
    """Return what a program prints in a Python of its own."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def install(names, wheels, folder):
    """Install packages from a folder of wheels into another folder."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index"]
    subprocess.run([*command, "--find-links", wheels, "--target", folder, *names])


def card():
    """Return the GPUs and their driver; an empty text where there is none."""
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        return subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], check=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""


def versions(environment):
    """Return the versions of Python and torch, and whether torch sees a GPU."""
    program = (
        "import platform\n"
        "print('Python', platform.python_version(), end='')\n"
        "try:\n"
        "    import torch\n"
        "    print(', torch', torch.__version__, 'for CUDA', torch.version.cuda)\n"
        "    print(torch.cuda.is_available())\n"
        "except ModuleNotFoundError:\n"
        "    print(' without torch', False, sep='\\n')\n"
    )
    told, sees = ask(program, environment=environment).splitlines()
    return told, sees == "True"


def run(args, folder):
    """Run all parts; return the exit status."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    found, (told, sees) = card(), versions(environment)
    if not (found or sees or args.rehearse):
        print(f"No CUDA: there is no GPU here. ({told})")
        return 0
    if not (sees or args.rehearse):
        print(f"There is a GPU ({found}), but {told} sees none. Set PYTHON to one that")
        print("has torch with CUDA.")
        return 1
    needed, peers = packages()
    path = [folder, str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if args.wheels:
        carried = "".join(file.name for file in Path(args.wheels).glob("*.whl"))
        peers_carried = [p for p in peers if p.replace("-", "_") in carried]
        install([*needed, *peers_carried], args.wheels, folder)
    if missing := lacking(needed, environment):
        print("Not installed:", *missing)
        print("Carry them as wheels (see CONTRIBUTING), and name the folder: WHEELS=.")
        return 1
    absent = lacking(peers, environment)
    report = Path(folder, "tests.xml")
    parts = parts_of(report, set(peers) - set(absent), args.rehearse)
    end = time.monotonic() + SECONDS
    try:
        for part in parts:
            part.limit = max(1, min(part.limit, end - time.monotonic()))
            part.run(environment)
    except KeyboardInterrupt:
        print("\nStopped.")
    print_table(parts, report, found, told, absent, args.rehearse)
    return int(any(part.problem for part in parts))


def print_table(parts, report, found, told, absent, rehearse):
    """Print what all parts came to, and note what is wrong."""
    print(f"\n##### {'A rehearsal on a CPU: ratios mean nothing' * rehearse}\n")
    print(f"{'card':28}{found or 'none'}")
    print(f"{'versions':28}{told}")
    if absent:
        print(f"{'left out, not installed':28}{', '.join(absent)}")
    for part in parts:
        rows = read_ratios(part.output)
        summary, wrong = "", "" if rows else "no ratios"
        if part.name == "tests":
            summary, wrong = read_tests(report, rehearse)
        part.problem = part.problem or wrong
        state = f"FAILED: {part.problem}" if part.problem else "done"
        state = ", ".join(filter(None, [state, summary]))
        print(f"{part.name:28}{state} ({part.seconds:.0f} s)")
        for what, ratio in rows:
            print(f"  {what:54}{ratio}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", help="folder to install from what is needed")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, very small")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(args, folder)


if __name__ == "__main__":
    sys.exit(main())
