"""Fits that are killed or interrupted while they train, as a user would do it."""

import json
import multiprocessing
import os
import signal
import threading
import time

PATIENCE = 120  # seconds


def epochs_done(folder, network=1):
    """Epochs that a network of the fit with these checkpoints has behind it."""
    for file in folder.glob(f"*-{network}.checkpoint"):
        with file.open("rb") as head:
            return json.loads(head.readline())["record"]["epoch"]
    return 0


def wait_for_epochs(folder, network=1, n_epochs=2):
    """Wait until a network has so many epochs behind it."""
    give_up = time.monotonic() + PATIENCE
    while epochs_done(folder, network) < n_epochs:
        assert time.monotonic() < give_up, "nothing is trained"
        time.sleep(0.001)


def kill_in_training(embedder, X, eras, folder, y=None):
    """Fit in another process, and kill it while it trains its last network."""
    embedder.set_params(checkpoint=folder, checkpoint_every=0)
    process = multiprocessing.get_context("spawn").Process(
        target=embedder.fit, args=(X, y), kwargs={"eras": eras}
    )
    process.start()
    wait_for_epochs(folder, embedder.n_models)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert epochs_done(folder, embedder.n_models) < embedder.max_epochs


def interrupt_in_training(embedder, X, eras, folder, prefix=""):
    """Fit here, and press Ctrl-C in the midst of training."""

    def press():
        wait_for_epochs(folder)
        os.kill(os.getpid(), signal.SIGINT)

    embedder.set_params(
        **{f"{prefix}checkpoint": folder, f"{prefix}checkpoint_every": 0}
    )
    # A shell may have started us with SIGINT ignored, as it does with background jobs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    finger = threading.Thread(target=press)
    finger.start()
    try:
        embedder.fit(X, eras=eras)
    finally:
        finger.join()
        signal.signal(signal.SIGINT, before)
