"""Run commands, and kill them at the n-th thing that they ask of the system.

Each line of the input is a list in JSON: n, and the arguments. Files that are opened,
renamed or removed, folders that are made, and connections are counted from the moment
at which the command begins; n = 0 kills nothing. Each line of the output is the status,
what the command has printed, and the count. Each command has a process of its own, a
copy of this one, which has imported what they need.
"""

import contextlib
import io
import json
import os
import signal
import sys
import tempfile

import numerapi  # noqa: F401
import pandas  # noqa: F401
import sklearn.linear_model  # noqa: F401

from numerai_features import export  # noqa: F401
from numerai_features.cli import main
from numerai_features.tournament import _http

_EVENTS = (
    "open", "os.rename", "os.remove", "os.mkdir", "os.utime", "os.rmdir",
    "fcntl.flock", "socket.connect", "http.client.send",
)  # fmt: skip
_NEVER = (".so", ".py", ".pyc")  # what imports open


def watch(at):
    """Count events, and end the process at one of them; return the count so far."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event not in _EVENTS:
            return
        if event == "open" and (
            isinstance(arguments[0], int) or str(arguments[0]).endswith(_NEVER)
        ):
            return
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count


def run(at, arguments, result):
    """Run a command in this process, and write what it has done to a file."""
    _http.DELAYS = (0.0, 0.01)
    with contextlib.redirect_stdout(io.StringIO()) as told:
        counted = watch(at)
        status = main(arguments)
        count = counted()
    result.write(json.dumps([status, told.getvalue(), count]).encode())
    result.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        at, *arguments = json.loads(line)
        with tempfile.TemporaryFile() as result:
            child = os.fork()
            if not child:
                with contextlib.suppress(BaseException):
                    run(at, arguments, result)
                os._exit(0)
            _, ended = os.waitpid(child, 0)
            result.seek(0)
            told = result.read() or json.dumps([-os.WTERMSIG(ended), "", 0]).encode()
            print(told.decode(), flush=True)
