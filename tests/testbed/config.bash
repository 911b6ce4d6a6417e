# shellcheck shell=bash
#
# Writes the configuration of one test bed. Sourced by ./slurm.

readonly CLUSTER='testbed'
# Seconds. Slurm's own defaults are 30 and 120: a cancelled job may hold its
# GPUs for KillWait, and a requeued one starts after the credential expired.
readonly KILL_WAIT_S=5
readonly CRED_EXPIRE_S=10
readonly GRACE_S=10

#######################################
# Writes the configuration that the variant asks for.
# Arguments:
#   Folder to write to (it is compared with, and moved to, ${ETC}).
#######################################
render() {
  local to="$1" host node
  mkdir -p -- "${to}"
  if [[ "${NAMESPACES}" == yes ]]; then
    host="${CONTROLLER}"
  else
    host="$(hostname -s)"
  fi
  render_slurm_conf "${host}" >"${to}/slurm.conf"
  # The same with loopback only, which the daemons get to see in its place
  # (start_daemon). Without these parameters all of Slurm listens on every
  # interface. With them it listens on what the host name resolves to, and
  # connects from 127.0.0.1: nothing works unless that is the same (Debian's
  # installer writes 127.0.1.1). The daemons have host names of their own, but
  # srun, outside a job, has the machine's.
  {
    cat -- "${to}/slurm.conf"
    echo 'CommunicationParameters=NoInAddrAny,NoCtldInAddrAny'
  } >"${to}/slurm.daemons.conf"
  if host_is_loopback; then
    cp -- "${to}/slurm.daemons.conf" "${to}/slurm.conf"
  fi
  render_cgroup_conf >"${to}/cgroup.conf"
  : >"${to}/gres.conf"
  for node in "${NODE_NAMES[@]:0:2}"; do
    # A File must be a device, else Slurm grants the GPUs but does not set
    # CUDA_VISIBLE_DEVICES.
    echo "NodeName=${node} Name=gpu AutoDetect=off Flags=nvidia_gpu_env" \
      "File=${DIR}/dev/${node}/nvidia[0-3]" >>"${to}/gres.conf"
  done
  if [[ "${ACCOUNTING}" == yes ]]; then
    # slurmdbd refuses a file that others can read.
    (umask 077 && render_slurmdbd_conf "${host}" >"${to}/slurmdbd.conf")
  fi
}

#######################################
# Whether the daemons can do without the other interfaces.
#######################################
loopback_only() {
  [[ "${NAMESPACES}" == yes ]] || host_is_loopback
}

host_is_loopback() {
  local address
  address="$(getent ahostsv4 "$(hostname)" | awk 'NR == 1 { print $1 }')"
  [[ "${address}" == 127.0.0.1 ]]
}

#######################################
# Outputs slurm.conf.
# Arguments:
#   Host name of the controller.
#######################################
render_slurm_conf() {
  local host="$1" node gres task='' bind=no partition_mode='PreemptMode=OFF'
  local -i i
  if ((CPUS <= $(nproc))); then bind=yes; fi
  [[ "${CGROUP}" == no ]] || task='task/cgroup'
  [[ "${bind}" == no ]] || task+="${task:+,}task/affinity"
  cat <<EOC
ClusterName=${CLUSTER}
SlurmctldHost=${host}(127.0.0.1)
SlurmctldPort=${PORT}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job may start again cred_expire + 1 seconds later.
AuthInfo=socket=${SOCKET},cred_expire=${CRED_EXPIRE_S}
StateSaveLocation=${STATE}/slurmctld
SlurmdSpoolDir=${STATE}/%n
SlurmctldPidFile=${RUN}/slurmctld.pid
SlurmdPidFile=${RUN}/slurmd.%n.pid
SlurmctldLogFile=${LOG}/slurmctld.log
SlurmdLogFile=${LOG}/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
LogTimeFormat=iso8601_ms
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
TaskPlugin=${task:-task/none}
# Take the nodes' sizes from here: they promise more than the machine has.
SlurmdParameters=config_overrides
SlurmdTimeout=60
UnkillableStepTimeout=120
ReturnToService=2
KillWait=${KILL_WAIT_S}
MaxArraySize=${MAX_ARRAY}
MinJobAge=${MIN_JOB_AGE}
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
PriorityType=priority/basic
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
PreemptMode=REQUEUE
EOC
  if [[ "${PREEMPT}" == qos ]]; then
    echo 'PreemptType=preempt/qos'
    partition_mode=''
  else
    echo 'PreemptType=preempt/partition_prio'
  fi
  if [[ "${USERSIG}" == yes ]]; then
    echo 'SlurmctldParameters=preempt_send_user_signal'
  fi
  if [[ "${CGROUP}" == yes ]]; then
    echo 'ProctrackType=proctrack/cgroup'
    echo 'PrologFlags=Contain'
  else
    echo 'ProctrackType=proctrack/linuxproc'
  fi
  if [[ "${ACCOUNTING}" == yes ]]; then
    cat <<EOC
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=${SOCKET}
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
EOC
  else
    echo 'AccountingStorageType=accounting_storage/none'
  fi
  for i in "${!NODE_NAMES[@]}"; do
    node="${NODE_NAMES[i]}"
    gres=''
    ((i == 2)) || gres=' Gres=gpu:4'
    [[ "${NAMESPACES}" == no ]] || host="${node}"
    echo "NodeName=${node} NodeHostname=${host} NodeAddr=127.0.0.1" \
      "Port=$((PORT + 11 + i)) CPUs=${CPUS} RealMemory=65536${gres}"
  done
  # Only `high` is above the others: a test that fills `main` shall not preempt
  # the one that uses `preemptible`.
  local gpus="${NODE_NAMES[0]},${NODE_NAMES[1]}" all="${NODE_NAMES[0]},${NODE_NAMES[1]},${NODE_NAMES[2]}"
  cat <<EOC
PartitionName=DEFAULT Nodes=${all} DefaultTime=60 MaxTime=INFINITE PriorityTier=1 ${partition_mode}
PartitionName=main Default=YES
PartitionName=gpu Nodes=${gpus}
PartitionName=short MaxTime=5 DefaultTime=5
PartitionName=high PriorityTier=20
PartitionName=preemptible PreemptMode=REQUEUE GraceTime=${GRACE_S}
EOC
}

render_cgroup_conf() {
  local bind=no
  if ((CPUS <= $(nproc))); then bind=yes; fi
  # Else slurmd looks for what the machine has, and does not start where that
  # is version 2 without systemd, though nothing is kept in cgroups.
  cat <<EOC
CgroupPlugin=cgroup/v1
ConstrainCores=${bind}
ConstrainRAMSpace=${MEM}
ConstrainSwapSpace=no
ConstrainDevices=${DEVICES}
EOC
}

#######################################
# Outputs slurmdbd.conf.
# Arguments:
#   Host name of the controller.
#######################################
render_slurmdbd_conf() {
  cat <<EOC
DbdHost=$1
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${SOCKET}
PidFile=${RUN}/slurmdbd.pid
LogFile=${LOG}/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
# "localhost" means the socket that MYSQL_UNIX_PORT names (start_slurmdbd).
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
EOC
  if loopback_only; then
    # Not in the manual page of slurmdbd.conf, but it counts there as well.
    echo 'CommunicationParameters=NoInAddrAny'
  fi
}
