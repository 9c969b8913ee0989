# SPDX-License-Identifier: BSD-3-Clause
"""Checks that run on several processes of this machine, which exchange by gloo."""

import os
import pathlib
import sys
import tempfile
import time
import unittest

import torch
import torch.multiprocessing

from common import Case

try:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # noqa: F401
    from torch.distributed.tensor import distribute_tensor

    MISSING = None
except ImportError as missing:
    MISSING = f"PyTorch {torch.__version__}: {missing}"

judge = Case()


def _work(rank, ranks, store, check, arguments):
    torch.set_num_threads(1)
    torch.manual_seed(3)  # the same numbers on every rank
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))  # as torchrun sets them
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    check(init_device_mesh("cpu", (ranks,)), *arguments)
    _leave_together(rank, ranks, store)


def _leave_together(rank, ranks, store):
    """Ends this process once all are done, past destructors: gloo's threads abort a process now and then that ends in the
    usual way."""
    done = [pathlib.Path(f"{store}.{r}") for r in range(ranks)]
    done[rank].touch()
    while not all(path.exists() for path in done):
        time.sleep(0.01)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@unittest.skipIf(MISSING, MISSING)
class Parallel(unittest.TestCase):
    def run_on(self, ranks, check, *arguments):
        """check(mesh, *arguments) on so many processes: it fails where one of them does."""
        with tempfile.TemporaryDirectory() as folder:
            store = pathlib.Path(folder) / "store"
            torch.multiprocessing.spawn(_work, (ranks, store, check, arguments), nprocs=ranks)


def local(value, name, split_by, mesh):
    """This rank's part of the whole value of u, v, d or the weight."""
    dimension = {"rows": {"u": 1, "d": 0, "weight": 0}, "columns": {"v": 1, "weight": 1}}[split_by].get(name)
    if dimension is None:
        return value
    parts = torch.chunk(value, mesh.size(), dimension)
    rank = mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else value.narrow(dimension, 0, 0)


@torch.no_grad()
def assign(parameter, whole):
    """The whole value becomes that of a parameter that is split."""
    parameter.copy_(distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None))
