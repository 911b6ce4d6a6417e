#!/bin/bash

# Parameters
#SBATCH --array=0-3%2
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-task=4
#SBATCH --job-name=SWEEP_ID
#SBATCH --mem=128G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/me/vision/.wandb-submit/abc234/jobs/%A_%a_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=1-00:00:00

# setup
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export SLURM_EXPORT_ENV=ALL
export OMP_NUM_THREADS=8

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/me/vision/.wandb-submit/abc234/jobs/%A_%a_%t_log.out PYTHON wandb_submit.executors.task_program /home/me/vision/.wandb-submit/abc234/jobs
