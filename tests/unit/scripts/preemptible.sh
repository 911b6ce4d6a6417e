#!/bin/bash

# Parameters
#SBATCH --array=0-3%2
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --job-name=SWEEP_ID
#SBATCH --mem=32G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/me/vision/.wandb-submit/abc234/jobs/%A_%a_0_log.out
#SBATCH --partition=preemptible
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=12:00:00

# setup
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/me/vision/.wandb-submit/abc234/jobs/%A_%a_%t_log.out PYTHON wandb_submit.executors.task_program /home/me/vision/.wandb-submit/abc234/jobs
