#!/bin/bash

# Parameters
#SBATCH --array=0-3%2
#SBATCH --job-name=SWEEP_ID
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/me/vision/.wandb-submit/abc234/jobs/%A_%a_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@90

# setup
export SLURM_EXPORT_ENV=ALL
export IMAGE=./train.sqsh
# `python` is srun --overlap --nodes=1 --ntasks=1 --mem=0 --cpu-bind=none --container-image="$IMAGE" --container-mounts="$PWD:$PWD,$HOME:$HOME" --container-workdir="$PWD" env CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES" python
export PATH=/home/me/vision/.wandb-submit/abc234/bin:$PATH

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/me/vision/.wandb-submit/abc234/jobs/%A_%a_%t_log.out PYTHON wandb_submit.executors.task_program /home/me/vision/.wandb-submit/abc234/jobs
