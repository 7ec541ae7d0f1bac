"""Kills, interrupts, crashes, full disks, several writers, and flipped bits.

Whatever happens to a process: what is on disk is never wrong, the next run ends, with
the results of one that nothing happened to, and leaves nothing else behind.
"""

import functools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from stress_jobs import JOBS, LOST, child, contents, listing

pytestmark = pytest.mark.slow

MOMENTS = 20
MOST_OPERATIONS = 24  # of one job; every so many where it has more
FLIPS = (
    40  # of one job; each kind of file has its own, more of them, in the other tests
)
# Inner fits that could not be kept, as on a full disk, where the fold itself was.
MAY_BE_MISSING = {"Folds": (".call", ".latents")}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stress_jobs"])
HERE = Path(__file__).parent
KINDS = {
    "SIGKILL": [signal.SIGKILL],
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
}
# Torch aborts where a signal comes within C++ code of its own that cannot hand on what
# Python makes of it; seen in training, and while torch is imported.
ENDS = {
    "SIGKILL": {-signal.SIGKILL},
    "SIGINT": {130, -signal.SIGABRT},
    "SIGINT twice": {130, 1, -signal.SIGABRT},
    "SIGTERM": {-signal.SIGTERM, 143, -signal.SIGABRT},
}


@pytest.fixture(scope="module", autouse=True)
def _path():
    """Let the processes find the jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield


def start(job, folder, **options):
    folder.mkdir(exist_ok=True)
    folder.with_suffix(".outcome").unlink(missing_ok=True)
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=child, args=(job, folder, ready), kwargs=options)
    process.start()
    while not ready.wait(0.05) and process.exitcode is None:
        pass
    return process


def end_of(process):
    process.join(600)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode


def log_of(folder):
    return folder.with_suffix(".log").read_text()[-3000:]


def outcome_of(folder):
    """Return what a job came to, and how many operations on files it took."""
    digest, count = folder.with_suffix(".outcome").read_text().split()
    return digest, int(count)


@functools.cache
def undisturbed(job, base):
    """Return the outcome, operations, seconds and files of a job that goes well."""
    folder = base / "undisturbed"
    process = start(job, folder)
    begin = time.monotonic()
    assert end_of(process) == 0, log_of(folder)
    seconds = time.monotonic() - begin
    return *outcome_of(folder), seconds, listing(folder)


def assert_ends_well(job, folder, base):
    """The state is whole, and the next run is as one that nothing happened to."""
    JOBS[job]().check(folder)
    digest, _, _, files = undisturbed(job, base)
    assert end_of(start(job, folder)) == 0, log_of(folder)
    assert outcome_of(folder)[0] == digest
    left, expected = Counter(listing(folder)), Counter(files)
    assert not left - expected
    assert all(name.endswith(MAY_BE_MISSING.get(job, ())) for name in expected - left)
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=JOBS)
def job(request):
    return request.param


@pytest.fixture(scope="module")
def base(job, tmp_path_factory):
    return tmp_path_factory.mktemp(job)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_random_moments(job, base, kind):
    _, _, seconds, _ = undisturbed(job, base)
    rng = np.random.default_rng(len(job) + len(kind))
    n_stopped = 0
    for number in range(MOMENTS):
        folder = base / f"stopped-{number}"
        process = start(job, folder)
        time.sleep(rng.uniform(0, seconds))
        for sent in KINDS[kind]:
            if process.exitcode is None:
                os.kill(process.pid, sent)
                time.sleep(rng.uniform(0, 0.02))
        status = end_of(process)
        assert status in {0, *ENDS[kind]}, log_of(folder)
        n_stopped += status != 0
        assert_ends_well(job, folder, base)
    assert n_stopped >= MOMENTS // 4


def test_gone_before_and_after_operations_on_files(job, base):
    _, n_operations, _, _ = undisturbed(job, base)
    chosen = np.linspace(1, n_operations, min(MOST_OPERATIONS, n_operations))
    n_gone = 0
    for at in np.unique(chosen.astype(int)):
        folder = base / f"gone-{at}"
        status = end_of(start(job, folder, at=int(at)))
        assert status in (0, LOST), log_of(folder)
        n_gone += status == LOST
        assert_ends_well(job, folder, base)
    assert n_gone >= 0.9 * len(np.unique(chosen.astype(int)))


def isolated(*command):
    """Run in namespaces of its own, or skip where that is not allowed."""
    unshare = ["unshare", "-Urmpf", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"]).returncode:
        pytest.skip("no namespaces can be made here")
    return subprocess.Popen([*unshare, *map(str, command)])


def size_of(folder):
    return sum(p.stat().st_size for p in folder.rglob("*"))


@pytest.mark.parametrize("eighths", range(1, 9))
def test_a_full_disk(job, base, eighths):
    """Of what the job needs so many eighths are free."""
    undisturbed(job, base)
    folder = base / f"full-{eighths}"
    folder.mkdir()
    JOBS[job]().prepare(folder)
    before, needed = map(size_of, (folder, base / "undisturbed"))
    size = 32 + (before + max(needed, 64_000) * eighths // 6) // 1024
    # The small disk's files come from the large one, and go back before it is gone.
    script = (
        f"cp -a {folder} {folder}-before; "
        f"mount -t tmpfs -o size={size}k tmpfs {folder} && "
        f"cp -a {folder}-before/. {folder}/; "
        f"{sys.executable} {HERE / 'stress_jobs.py'} {job} {folder}; status=$?; "
        f"mkdir {folder}-left; cp -a {folder}/. {folder}-left/; exit $status"
    )
    status = isolated("sh", "-c", script).wait(600)
    assert status in (0, 1), log_of(folder)
    shutil.rmtree(folder)
    Path(f"{folder}-left").rename(folder)
    assert_ends_well(job, folder, base)


def test_two_writers_in_namespaces(job, base):
    """Where both have the same number of a process."""
    folder = base / "both"
    folder.mkdir()
    JOBS[job]().prepare(folder)
    run = [sys.executable, HERE / "stress_jobs.py", job, folder]
    both = [isolated(*run) for _ in range(2)]
    statuses = {process.wait(600) for process in both}
    assert statuses == {0}, log_of(folder)
    assert_ends_well(job, folder, base)


def test_two_threads(job, base):
    if job == "Run":
        pytest.skip("a command is a process of its own")
    folder = base / "threads"
    folder.mkdir()
    outcomes = []

    def do():
        own = JOBS[job]()
        own.prepare(folder)
        outcomes.append(own.do(folder))

    JOBS[job]().prepare(folder)
    threads = [threading.Thread(target=do) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert outcomes == [undisturbed(job, base)[0]] * 2
    assert_ends_well(job, folder, base)


def flipped(content, rng):
    bad = bytearray(content)
    bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
    return bytes(bad)


def test_flipped_bits(job, base):
    """In every file that is left when a job is stopped half-way, or has ended."""
    digest, n_operations, _, _ = undisturbed(job, base)
    rng = np.random.default_rng(len(job))
    folder = base / "half"
    end_of(start(job, folder, at=n_operations * 3 // 4))
    files = [name for name in contents(folder) if not name.endswith((".toml", ".tmp"))]
    assert files or job == "WritePanel"
    n_told = 0
    for number in range(FLIPS if files else 0):
        copy = base / f"flipped-{number}"
        shutil.copytree(folder, copy)
        name = files[number % len(files)]
        file = copy / name
        if not file.stat().st_size:
            shutil.rmtree(copy)
            continue
        file.write_bytes(flipped(file.read_bytes(), rng))
        status = end_of(start(job, copy))
        if status:  # told, by the name of the file
            assert status == 1, log_of(copy)
            assert file.name in log_of(copy), (name, log_of(copy))
            n_told += 1
        else:
            assert outcome_of(copy)[0] == digest, name
        shutil.rmtree(copy)
    print(f"{job}: {FLIPS} flips in {len(files)} files, {n_told} told by an error")
