# shellcheck shell=bash
#
# Finds and ends the processes of one test bed. Sourced by ./slurm.

#######################################
# Lists this cluster's daemons.
#
# Pid files are not enough: they are gone with the state folder, stale after a
# kill -9, and their numbers are reused. So this looks at the processes: the
# executable must be one of ours, and it must carry our mark or work in our
# log folder. The latter is for slurmstepd and slurmscriptd, which overwrite
# their environment with their title. Other processes of that name, and
# daemons of another cluster, do not match.
# Outputs:
#   "PID NAME NODE" per daemon; NODE is - except for slurmd.
#######################################
daemons() {
  local path pid exe name node
  while read -r path; do
    pid="${path//[!0-9]/}"
    same_root "${pid}" || continue
    exe="$(readlink "/proc/${pid}/exe" 2>/dev/null)" || continue
    exe="${exe% (deleted)}"  # The package was upgraded underneath.
    name="${exe##*/}"
    name="${name%-wlm}"      # Debian's alternatives.
    node='-'
    case "${name}" in
      munged | mariadbd | slurmdbd | slurmstepd) ;;
      slurmctld)
        # Its helper has the same executable, and ends with it.
        [[ "$(cat "/proc/${pid}/comm" 2>/dev/null)" == slurmctld ]] \
          || name=slurmscriptd
        ;;
      slurmd)
        node="$(tr '\0' '\n' <"/proc/${pid}/cmdline" 2>/dev/null \
          | sed -n '/^-N$/{n;p;q}')"
        ;;
      *) continue ;;
    esac
    echo "${pid} ${name} ${node:--}"
  done < <(
    {
      grep -lszxF -e "${MARK}=${DIR}" /proc/[0-9]*/environ || true
      find /proc/[0-9]*/cwd -maxdepth 0 \
        '(' -lname "${LOG}" -o -lname "${LOG} (deleted)" ')' 2>/dev/null \
        || true
    } | sed 's#/[a-z]*$##' | sort -u
  )
}

#######################################
# Whether a process sees the same files as we do. In a chroot or container
# below this system, our own paths mean another cluster.
#######################################
same_root() {
  [[ "/proc/$1/root" -ef / ]]
}

#######################################
# Prints the pids of one kind of daemon.
# Arguments:
#   Name; optionally the node.
#######################################
pids_of() {
  daemons | awk -v name="$1" -v node="${2:-}" \
    '$2 == name && (node == "" || $3 == node) { print $1 }'
}

running() {
  [[ -n "$(pids_of "$@")" ]]
}

#######################################
# Ends all daemons of the given names: SIGTERM, after a while SIGKILL.
# Arguments:
#   Names.
#######################################
end_daemons() {
  local name pids=()
  for name in "$@"; do
    mapfile -t -O "${#pids[@]}" pids < <(pids_of "${name}")
  done
  ((${#pids[@]})) || return 0
  # With the state folder gone, they would only try in vain to save things.
  [[ ! -d "${STATE}" ]] || kill -TERM "${pids[@]}" 2>/dev/null || true
  if [[ ! -d "${STATE}" ]] || ! wait_until 10 all_gone "${pids[@]}"; then
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait_until 5 all_gone "${pids[@]}" || fail "cannot end $* (${pids[*]})"
  fi
}

all_gone() {
  local pid
  for pid in "$@"; do
    # A zombie has no executable any more: gone, if not yet reaped.
    ! readlink "/proc/${pid}/exe" >/dev/null 2>&1 || return 1
  done
}

#######################################
# Lists the nodes that this cluster may have left something of.
#######################################
own_nodes() {
  {
    configured_nodes
    daemons | awk '$2 == "slurmd" { print $3 }'
    printf '%s\n' "${NODE_NAMES[@]}"  # Set by `start` only.
  } | sed '/^$/d' | sort -u
}

#######################################
# Lists the processes of this cluster's jobs. They outlive slurmd by design.
#
# A job process is in its node's cgroup, or has our SLURM_CONF (the submitter
# had it, and sbatch hands the environment on) and SLURM_TASK_PID, which only
# slurmstepd sets: the shell of an salloc is not one.
# Arguments:
#   Nodes.
#######################################
job_pids() {
  local cgroup pid
  {
    for cgroup in $(job_cgroups "$@"); do
      cat -- "${cgroup}/cgroup.procs" 2>/dev/null || true
    done
    grep -lszxF -e "SLURM_CONF=${CONF}" /proc/[0-9]*/environ \
      | xargs -r grep -lsz -e '^SLURM_TASK_PID=' | tr -dc '0-9\n' \
      | while read -r pid; do
        ! same_root "${pid}" || echo "${pid}"
      done || true
  } | sort -un
}

#######################################
# Lists the cgroups of some nodes, the inner ones first. Slurm names them after
# the node.
# Arguments:
#   Nodes.
#######################################
job_cgroups() {
  local node top
  for node in "$@"; do
    ! foreign_node "${node}" || continue
    for top in "/sys/fs/cgroup/"*"/slurm_${node}"; do
      find "${top}" -depth -type d 2>/dev/null || true
    done
  done
}

#######################################
# Whether a slurmd that is not ours runs a node of this name, so that the
# cgroups of this name are not ours either.
#######################################
foreign_node() {
  local pid exe args ours
  ours=" $(pids_of slurmd | tr '\n' ' ') "
  for pid in $(grep -lsx -e slurmd -e slurmd-wlm /proc/[0-9]*/comm \
    | tr -dc '0-9\n'); do
    [[ "${ours}" != *" ${pid} "* ]] || continue
    exe="$(readlink "/proc/${pid}/exe" 2>/dev/null)" || continue
    [[ "${exe}" == */slurmd* ]] || continue
    args=" $(tr '\0' ' ' <"/proc/${pid}/cmdline" 2>/dev/null) "
    case "${args}" in
      *" -N $1 "*) return 0 ;;
      *' -N '*) ;;
      *) [[ "$(hostname -s)" != "$1" ]] || return 0 ;;
    esac
  done
  return 1
}

#######################################
# Kills the processes of this cluster's jobs.
# Arguments:
#   Nodes.
#######################################
kill_jobs() {
  local pids
  mapfile -t pids < <(job_pids "$@")
  ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
}

#######################################
# Removes the cgroups that jobs left. Slurm keeps the nodes' own ones.
# Arguments:
#   Nodes.
#######################################
remove_cgroups() {
  local cgroup
  for cgroup in $(job_cgroups "$@"); do
    rmdir -- "${cgroup}" 2>/dev/null || true
  done
}
