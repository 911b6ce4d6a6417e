"""What this machine has: its GPUs and the cores that we may use."""

from wandb_submit.devices.cores import usable_cores
from wandb_submit.devices.gpu import Gpu
from wandb_submit.devices.slurm_node import on_allocated_node
from wandb_submit.devices.visible import VisibleGpus, visible_gpus

__all__ = ["Gpu", "VisibleGpus", "on_allocated_node", "usable_cores", "visible_gpus"]
