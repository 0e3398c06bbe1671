"""Who computes: one process with plain torch, or many with DeepSpeed's ZeRO. The same few verbs for both.

A worker holds the model and the optimiser. `backward` adds a batch's gradients, `step` updates the weights once all
batches of a step are in. Losses are divided by the supervised tokens of the whole step over all processes, so that
gradients add up; DeepSpeed averages them over processes, hence its factor. Which batches there are is not known here.
"""

import contextlib
import datetime
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from dartlib.files import cache_folder, first_line, locked
from dartlib.training.config import Job, TrainingConfig
from dartlib.training.loss import Batch, SupervisedModel
from dartlib.training.recipe import Recipe, TrainingError

if not torch.cuda.is_available():  # transformers imports DeepSpeed to save a model, and it would warn
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
_TIMEOUT = datetime.timedelta(hours=2)  # rank 0 may tokenize for long; a process that died is noticed at once


def optimiser_for(model: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW over the weights that are trained; fp32, as they are."""
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    return torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def named_once(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's stored tensors by name; of tied ones the first name only."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        found.setdefault(id(value), (name, value))
    return dict(found.values())


def _stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy on the CPU, numbers in the type that they are stored in."""
    return value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype, copy=True)


class OneProcess:
    """The whole model in this process, on the best device."""

    rank, world = 0, 1

    def __init__(self, model: PreTrainedModel, config: TrainingConfig) -> None:
        self.device = own_device()
        self.module = SupervisedModel(model.to(self.device), precision=config.precision)
        self._largest = config.max_gradient_norm
        self._optimiser = optimiser_for(self.module, config)

    def backward(self, batch: Batch, tokens: int, *, last: bool) -> float:
        """Add the gradients of the batch's summed loss / ``tokens``; returns that number. ``last`` of this step."""
        loss = self.module(batch) / tokens
        loss.backward()
        return float(loss.item())

    def step(self, learning_rate: float) -> None:
        """Cut the gradients to their largest norm, update the weights, forget the gradients."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._largest)
        self._optimiser.step()
        self._optimiser.zero_grad()

    def total(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        return list(values)

    def wait(self) -> None:
        """Until all processes are here."""

    def save(self, folder: Path) -> None:
        """Write weights and optimiser, exactly, into a folder that is there. All processes call it."""
        state = {"weights": self.module.model.state_dict(), "optimiser": self._optimiser.state_dict()}
        torch.save(state, folder / "state.pt")

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote."""
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        self.module.model.load_state_dict(state["weights"])  # in place: tied weights stay tied
        self._optimiser.load_state_dict(state["optimiser"])

    def whole(self, module: torch.nn.Module) -> contextlib.AbstractContextManager[object]:
        """Within it, all weights of the module are in this process; what the first one changes, all get."""
        return torch.no_grad()

    def weights(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """All weights by name on the CPU, those of tied layers once; in the first process, elsewhere none."""
        return {name: _stored(value, dtype) for name, value in named_once(self.module.model).items()}


class ZeroProcesses:
    """This process's share of the model, under DeepSpeed, started by torchrun. The verbs are those of `OneProcess`."""

    def __init__(self, model: PreTrainedModel, job: Job) -> None:
        import deepspeed

        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.device = own_device()
        self.module = SupervisedModel(model, precision=job.config.precision)
        self._gathered = partial(deepspeed.zero.GatheredParameters, enabled=job.recipe.zero_stage == 3)
        self._engine, *_ = deepspeed.initialize(
            model=self.module, optimizer=optimiser_for(self.module, job.config), config=zero_settings(job)
        )

    def backward(self, batch: Batch, tokens: int, *, last: bool) -> float:
        self._engine.set_gradient_accumulation_boundary(last)
        loss = self._engine(batch) / tokens
        self._engine.backward(loss * self.world)
        return float(loss.item())

    def step(self, learning_rate: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    def total(self, values: Sequence[float]) -> list[float]:
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found

    def wait(self) -> None:
        torch.distributed.barrier()

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag="state", save_latest=False)

    def load(self, folder: Path) -> None:
        self._engine.load_checkpoint(str(folder), tag="state")

    @contextlib.contextmanager
    def whole(self, module: torch.nn.Module) -> Iterator[None]:
        with torch.no_grad(), self._gathered(list(module.parameters()), modifier_rank=0):
            yield

    def weights(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in named_once(self.module.model).items():  # one at a time: the whole need not fit a GPU
            with self._gathered([value] if hasattr(value, "ds_id") else []):
                if self.rank == 0:
                    found[name] = _stored(value, dtype)
        return found


Worker = OneProcess | ZeroProcesses


def zero_settings(job: Job) -> dict[str, Any]:
    """DeepSpeed's configuration. Packs are counted by us, so a micro batch is one and gradients are not averaged by it.

    Types are left as they are (fp32 weights, autocast inside the model): its own bf16 mode has twice lost or scaled
    gradients in public. The optimiser is torch's also when offloaded, so that nothing has to be compiled for it.
    """
    zero: dict[str, Any] = {"stage": job.recipe.zero_stage}
    if job.recipe.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if job.recipe.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": job.config.max_gradient_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }


@contextlib.contextmanager
def loading(job: Job) -> Iterator[None]:
    """Within it transformers loads a model in parts, one per process, when it is to be kept in parts (ZeRO-3)."""
    settings = None
    if job.recipe.zero_stage == 3:
        from transformers.integrations import HfDeepSpeedConfig

        settings = HfDeepSpeedConfig(zero_settings(job))
    yield
    del settings  # transformers looks at it for as long as it lives


def available_memory(recipe: Recipe) -> float:
    """Bytes that one process may use: of its GPU, or its share of the machine's free memory."""
    import psutil

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(own_device()).total_memory)
    return psutil.virtual_memory().available / recipe.processes


def own_device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, cards = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= cards:
        raise TrainingError(f"the recipe's processes are more than this machine's {cards} GPUs: one for each")
    return torch.device("cuda", number)


def join_processes() -> None:
    """Meet the other processes that torchrun started; gloo on CPUs, NCCL on GPUs."""
    prepare_helper()
    import deepspeed

    device = own_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, timeout=_TIMEOUT, verbose=False)


def prepare_helper() -> None:
    """Load DeepSpeed's compiled helper for processes on one CPU machine, built once into our own cache.

    torch compiles under a lock file that stays when the process is killed; every later run then waits for it for
    ever. Here a lock of the kernel's is held around it, so that a lock file that is found belongs to nobody. What
    is built is taken as it is: ninja would build it anew whenever another environment's paths or another ninja come by.
    """
    versions = "-".join(importlib.metadata.version(name) for name in ("torch", "deepspeed"))
    folder = cache_folder() / "torch_extensions" / versions
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    from deepspeed.accelerator import get_accelerator
    from deepspeed.ops import __compatible_ops__
    from torch.utils.cpp_extension import _import_module_from_library as read_built

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None:  # not on GPUs
        return
    with locked(folder / "in-use"):
        (folder / builder.NAME / "lock").unlink(missing_ok=True)
        try:
            with contextlib.suppress(ImportError):  # not there, or only a part of it
                builder._loaded_ops[builder.NAME] = read_built(builder.NAME, str(folder / builder.NAME), True)
            builder.load()
        except (RuntimeError, OSError) as error:  # no compiler: gloo alone is slower, and right
            print(f"DeepSpeed's helper cannot be built, going on without: {first_line(error)}", flush=True)
            __compatible_ops__[builder.NAME] = False


if __name__ == "__main__":
    prepare_helper()
