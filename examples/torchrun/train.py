"""Data-parallel training: every process computes on its share of the data, and all of them keep the same weights.

torchrun, or `wandb-submit --nodes 2 --ranks-per-node 4`, starts it once per GPU and tells each process its rank.
"""

import argparse
import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--steps", type=int, default=40)
args = parser.parse_args()

local_rank = int(os.environ["LOCAL_RANK"])
use_gpu = torch.cuda.is_available()
device = torch.device(f"cuda:{local_rank}" if use_gpu else "cpu")
dist.init_process_group("nccl" if use_gpu else "gloo")  # reads RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
rank, world = dist.get_rank(), dist.get_world_size()

run = None
if rank == 0:  # one process logs; the others have the same weights, and nothing to tell
    import wandb

    run = wandb.init(config={"world": world})

torch.manual_seed(rank)
inputs = torch.randn(64, 8, device=device)
targets = inputs.sum(1, keepdim=True)
model = DistributedDataParallel(torch.nn.Linear(8, 1).to(device), device_ids=[local_rank] if use_gpu else None)
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
for _ in range(args.steps):
    optimizer.zero_grad()
    loss = ((model(inputs) - targets) ** 2).mean()
    loss.backward()  # the gradients' mean over all processes
    optimizer.step()
    dist.all_reduce(mean := loss.detach().clone())
    if run:
        run.log({"loss": mean.item() / world})
    time.sleep(0.05)  # where a real script computes

if run:
    run.finish()
dist.destroy_process_group()
