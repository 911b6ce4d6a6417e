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
export MODULES=python
export VENV=.venv
setup_at=1
setup_ended() { (($1 == 0)) || setup_failed "$1"; setup_at=$(($2 + 1)); }
setup_failed() {
  [[ $setup_at ]] || return 0
  echo "wandb-submit: command $setup_at of setup failed with exit status $1" >&2
  setup_at=
  exit "$(($1 ? $1 : 1))"
}
trap 'setup_failed $?' EXIT
type module >/dev/null 2>&1 || source /etc/profile
setup_ended $? 1
module purge
setup_ended $? 2
module load $MODULES
setup_ended $? 3
source "$VENV/bin/activate"
setup_ended $? 4
setup_at=
set +eu

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/me/vision/.wandb-submit/abc234/jobs/%A_%a_%t_log.out PYTHON wandb_submit.executors.task_program /home/me/vision/.wandb-submit/abc234/jobs
