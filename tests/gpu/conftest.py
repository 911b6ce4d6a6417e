"""What needs an NVIDIA GPU, and a Python with torch: `make gpu` runs it."""

import os

collect_ignore = [] if os.environ.get("WANDB_SUBMIT_TORCH") else ["test_gpu.py"]
