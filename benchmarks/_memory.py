"""Peak memory of a fresh process: anonymous (RssAnon) and resident, sampled."""

import json
import subprocess
import sys
import time
from pathlib import Path

INTERVAL = 0.005


def _status(pid):
    """Return (RssAnon, VmRSS) in bytes, summed over a process and its children."""
    anonymous = resident = 0
    pids = [pid]
    while pids:
        one = pids.pop()
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {k: v for k, _, v in (line.partition(":") for line in lines)}
        if "RssAnon" in sizes:
            anonymous += int(sizes["RssAnon"].split()[0]) * 1024
            resident += int(sizes["VmRSS"].split()[0]) * 1024
        pids += [int(child) for child in children]
    return anonymous, resident


def measure(script, *args):
    """Run ``script args``; measure from its line "ready" to its line "done".

    Returns
    -------
    dict
        extra_anonymous and extra_resident (bytes above the state at "ready"),
        seconds, and what the script printed as JSON after "done".
    """
    process = subprocess.Popen(
        [sys.executable, script, *args], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == "ready":
            break
    start, base = time.perf_counter(), _status(process.pid)
    peak = list(base)
    import threading

    result = {}

    def wait():
        for line in process.stdout:
            if line.startswith("done"):
                result["seconds"] = time.perf_counter() - start
                result.update(json.loads(line[4:].strip() or "{}"))
        process.wait()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while waiter.is_alive() and "seconds" not in result:
        now = _status(process.pid)
        peak = [max(a, b) for a, b in zip(peak, now, strict=True)]
        time.sleep(INTERVAL)
    waiter.join()
    if process.returncode:
        raise RuntimeError(f"{script} {args} exited with {process.returncode}")
    result["extra_anonymous"] = peak[0] - base[0]
    result["extra_resident"] = peak[1] - base[1]
    return result
