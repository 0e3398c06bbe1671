"""The training child with something done to it, run by tests instead of ``-m dartlib.training.child``.

``TRAINING_PROBE`` holds a JSON object: ``kill`` (CLASS_OR_MODULE.FUNCTION and the number of the call on which the
process kills itself), ``rank`` (the process it happens to, default 0), ``raise`` (the same, with an exception),
``drop`` (this process's gradients are lost), ``gradients`` (a file for the gradients of the first step).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys

import torch

from dartlib.training import child, workers

PROBE = json.loads(os.environ.get("TRAINING_PROBE", "{}"))
RANK = int(os.environ.get("RANK", 0))


def before_call(path: str, number: int, action) -> None:
    """Do ``action`` before the ``number``-th call of a function, named as dartlib.training.MODULE[.CLASS].FUNCTION."""
    parts = path.split(".")
    owner = importlib.import_module(f"dartlib.training.{parts[0]}")
    for part in parts[1:-1]:
        owner = getattr(owner, part)
    function, calls = getattr(owner, parts[-1]), []

    def wrapped(*arguments, **named):
        calls.append(1)
        if len(calls) == number:
            action()
        return function(*arguments, **named)

    setattr(owner, parts[-1], wrapped)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise RuntimeError("the memory of this card is broken")


def lose_gradients() -> None:
    backward = workers.ZeroProcesses.backward

    def nothing(self, batch, tokens, *, last):
        return backward(self, batch, 1e30, last=last) * 1e30 / tokens

    workers.ZeroProcesses.backward = nothing


def save_gradients(path: str) -> None:
    """Of the first step, before they are cut to their norm; by name, tied ones once."""
    from safetensors.torch import save_file

    for kind in (workers.OneProcess, workers.ZeroProcesses):

        def first(self, rate, step=kind.step):
            if not os.path.exists(path):
                found = {}
                for name, weights in self.module.model.named_parameters():
                    if isinstance(self, workers.OneProcess):
                        found[name] = weights.grad.clone()
                    else:
                        from deepspeed.utils import safe_get_full_grad

                        found[name] = safe_get_full_grad(weights).clone()
                self.wait()
                if self.rank == 0:
                    save_file(found, path)
            step(self, rate)

        kind.step = first


def main() -> int:
    if RANK == PROBE.get("rank", 0):
        for kind, action in (("kill", die), ("raise", fail)):
            if kind in PROBE:
                before_call(*PROBE[kind], action)
        if PROBE.get("drop"):
            lose_gradients()
    if "gradients" in PROBE:
        save_gradients(PROBE["gradients"])
    return child.main(sys.argv[1:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    status = main()
    sys.stdout.flush()
    os._exit(status)
