"""Several processes on one run: each does the same, its share of every batch, and only the first one writes.

torchrun and `accelerate launch` start them, and say in their environment how many there are and which this one is.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others, which may be writing 40 GB or reading."""
ALONE: ContextVar[bool] = ContextVar("alone", default=False)


class OthersGoneError(Exception):
    """Another process ended, and has said why."""


def count() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)


def number() -> int:
    return int(os.environ.get("RANK") or 0)


def on_this_machine() -> int:
    """The number of the device that is this process's own."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def is_first() -> bool:
    return number() == 0


def start() -> None:
    """Meet the others; nothing where there are none. What each does from here on, all do, in the same order."""
    if count() == 1:
        return
    import torch

    if not torch.distributed.is_initialized():
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(on_this_machine())
        # Short words between processes go by gloo, which needs no GPU.
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
        if not on_gpu:
            load_to_numbered_cpus()


def load_to_numbered_cpus() -> None:
    """The trainer calls a process's device "cpu:0" and loads an optimizer's state to it; PyTorch knows only "cpu"."""
    import torch

    torch.serialization.register_package(
        0, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
    )


def end() -> None:
    """Part from the others; the first goes on alone."""
    if together():
        import torch

        torch.distributed.destroy_process_group()


def together() -> bool:
    """Whether there are others, and they were met."""
    if count() == 1 or ALONE.get():
        return False
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nobody is waited for in here: what fails in one process, the others know nothing of."""
    before = ALONE.set(True)
    try:
        yield
    finally:
        ALONE.reset(before)


def wait() -> None:
    """Until all have come as far as this; nothing where there are no others."""
    if together():
        gather(None)


@contextlib.contextmanager
def one_writes() -> Iterator[bool]:
    """Whether this process is the one that writes here. None begins before all have come, and none goes on before it is
    done: so that all see the same files before, and the same after, and decide alike.
    """
    wait()
    yield is_first()
    wait()


def gather(mine: T) -> list[T]:
    """What each of the processes has, by their numbers, on all of them."""
    if not together():
        return [mine]
    import torch

    found: list[Any] = [None] * count()
    try:
        torch.distributed.all_gather_object(found, mine)
    except RuntimeError as error:
        if "closed" not in str(error) and "reset" not in str(error):
            raise
        raise OthersGoneError from error
    return found


def spread(items: list[T], work: Callable[[list[T]], list[R]]) -> list[R]:
    """`work(items)`, each process doing every so-manyth item; on all of them, in the order of the items."""
    if not together():
        return work(items)
    parts = gather(work(items[number() :: count()]))
    return [parts[place % count()][place // count()] for place in range(len(items))]
