"""Training by many processes, on one machine or several, started by torchrun.

`torchrun --nproc-per-node 2 -m jetcorr_utils.cli train …` starts the processes and tells each its place in its
environment; Kubeflow's TrainJob and PyTorchJob do the same. Each process takes its share of every batch, gradients are
averaged by PyTorch's DistributedDataParallel, and batch normalisation and losses see the whole batch: the training is
that of one process with the same batch size. With many processes a share may be too small to keep one busy: see
`with_kept_batch`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError, TrainingError
from ..models.process_sums import process_count

if TYPE_CHECKING:
    from ..config import ModelSettings

__all__ = ["from_first_process", "in_parallel", "process_group", "rank", "share_of", "with_kept_batch"]


@contextlib.contextmanager
def process_group() -> Iterator[str]:
    """Join the processes that torchrun started, for the time of the context; yields the device of this process.

    For the command line: outside of torchrun it does nothing, and the device is the first GPU, or the CPU.

    Raises
    ------
    InputError
        If what torchrun sets is set in part, or contradicts itself: other programs, and jobs of a cluster, have
        variables of these names.
    TrainingError
        If the processes cannot meet: the port is in use, or some do not come.
    """
    cuda = torch.cuda.is_available()
    if not _started_by_torchrun():
        yield "cuda" if cuda else "cpu"
        return
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if cuda else "gloo")
    except distributed.DistError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"the processes of this training cannot meet at {where}: {reason}") from None
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _started_by_torchrun() -> bool:
    """Whether all of torchrun's variables are there; a WORLD_SIZE of 1 alone, or none, is a process by itself."""
    given = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")}
    missing = [name for name, value in given.items() if not value]
    if not given["WORLD_SIZE"] or (missing and given["WORLD_SIZE"] == "1"):
        return False
    advice = "start the training with torchrun, or unset WORLD_SIZE to train in this process alone"
    if missing:
        raise InputError(f"WORLD_SIZE is {given['WORLD_SIZE']!r} without {', '.join(missing)}: {advice}")
    place, size = given["RANK"], given["WORLD_SIZE"]
    if not (place.isdecimal() and size.isdecimal() and int(place) < int(size)):
        raise InputError(f"RANK {place!r} is not a process of WORLD_SIZE {size!r}: {advice}")
    if not given["MASTER_PORT"].isdecimal():
        raise InputError(f"MASTER_PORT {given['MASTER_PORT']!r} is no port: {advice}")
    return True


def with_kept_batch(settings: ModelSettings) -> ModelSettings:
    """The settings with which each process keeps the batch that the study gives, in place of a share of it.

    A step then takes as many jets as there are processes times the batch. The learning rate grows as the square root of
    that, the rule for adaptive optimizers, which all of ours are (arXiv:2205.10287).
    """
    number, options = process_count(), settings.training
    larger = {"batch_size": number * options.batch_size, "learning_rate": number**0.5 * options.learning_rate}
    return settings.model_copy(update={"training": options.model_copy(update=larger)})


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if process_count() > 1 else 0


def share_of(size: int) -> tuple[int, int]:
    """The range of rows of this process, where each takes a part of `size`."""
    return rank() * size // process_count(), (rank() + 1) * size // process_count()


def from_first_process(read: Callable[[], Any]) -> Any:
    """What `read()` gives in the first process, in all of them: its disk may be the only one that has the file.

    It travels as the bytes of a checkpoint, of which tensors and plain values are read and no code: whoever can reach
    the ports of torchrun, which have no key, can take the place of the first process.
    """
    if process_count() == 1:
        return read()
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    content = io.BytesIO()
    if rank() == 0:
        torch.save(read(), content)
    size = torch.tensor(content.tell(), device=device)
    distributed.broadcast(size, src=0)
    values = torch.empty(int(size), dtype=torch.uint8)
    if rank() == 0:
        values = torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)
    values = values.to(device)
    distributed.broadcast(values, src=0)
    return torch.load(io.BytesIO(values.cpu().numpy().tobytes()), weights_only=True)


def in_parallel(model: nn.Module) -> nn.Module:
    """The network with gradients averaged over the processes; the network itself where there is one."""
    if process_count() == 1:
        return model
    # Running statistics are the same in all processes, because they come from sums over all
    return DistributedDataParallel(model, forward_sync_buffers=False)
