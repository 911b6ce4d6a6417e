#!/bin/bash

# Parameters
#SBATCH --array=0-3%2
#SBATCH --error=/home/me/vision/.wandb-submit/abc234/jobs/%A_%a_0_log.err
#SBATCH --job-name=wandb-submit-abc234
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/me/vision/.wandb-submit/abc234/jobs/%A_%a_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@90

# setup
export SLURM_EXPORT_ENV=ALL
export MODULES=python
export VENV=.venv
setup_ended() { (($1 == 0)) || { echo "wandb-submit: command $2 of setup failed with exit status $1" >&2; exit "$1"; }; }
type module >/dev/null 2>&1 || source /etc/profile
setup_ended $? 1
module purge
setup_ended $? 2
module load $MODULES
setup_ended $? 3
source "$VENV/bin/activate"
setup_ended $? 4

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/me/vision/.wandb-submit/abc234/jobs/%A_%a_%t_log.out --error /home/me/vision/.wandb-submit/abc234/jobs/%A_%a_%t_log.err PYTHON wandb_submit.executors.task_program /home/me/vision/.wandb-submit/abc234/jobs
