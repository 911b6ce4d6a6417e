# shellcheck shell=bash
#
# Starts, checks and stops one test bed's daemons. Sourced by ./slurm.

readonly ACCOUNT='lab'

#######################################
# Makes the device files that stand for the GPUs. Opening one fails with
# ENXIO, unless the devices cgroup forbids it: then with EPERM.
#######################################
make_devices() {
  local node device
  local -i i minor=100
  for node in "${NODE_NAMES[@]:0:2}"; do
    mkdir -p -- "${DIR}/dev/${node}"
    for i in 0 1 2 3; do
      device="${DIR}/dev/${node}/nvidia${i}"
      [[ -e "${device}" ]] \
        || mknod -m 0666 -- "${device}" c 195 "${minor}" 2>/dev/null \
        || ln -sf /dev/null "${device}"  # Containers may not mknod.
      minor+=1
    done
  done
}

#######################################
# Starts a program that becomes a daemon, with a clean environment: what
# slurmd has, parts of it reach the jobs.
# Arguments:
#   Host name it shall see ('' for the machine's), its log, the program and
#   its arguments.
#######################################
start_daemon() {
  local host="$1" log="$2"
  shift 2
  local -a argv=("$@")
  if [[ -n "${host}" && "${NAMESPACES}" == yes ]]; then
    # shellcheck disable=SC2016  # The inner shell expands.
    argv=(unshare --uts --mount --propagation slave -- sh -c '
      hostname "$1" && mount --bind "$2" /etc/hosts \
        && mount --bind "$3" "$4" && shift 4 && exec "$@"' sh
      "${host}" "${RUN}/hosts" "${ETC}/slurm.daemons.conf" "${CONF}" "$@")
  fi
  # 9 is the lock. A daemon that had it would hold it for ever; one that had
  # the caller's output would keep a pipe, and whoever reads it, waiting.
  (
    cd /
    exec env -i PATH="${PATH}" HOME=/root LANG=C.UTF-8 "${MARK}=${DIR}" \
      SLURM_CONF="${CONF}" MYSQL_UNIX_PORT="${MYSQL_SOCKET}" \
      setsid "${argv[@]}"
  ) </dev/null >>"${log}" 2>&1 9<&-
}

#######################################
# Waits until a daemon is there for others.
# Arguments:
#   Its name and log; the command that succeeds then, with its arguments.
#######################################
wait_for_daemon() {
  local name="$1" log="$2"
  shift 2
  wait_until 30 answers_or_died "${name}" "$@" || true
  running "${name}" || fail "${name} ended at once" "${log}"
  "$@" || fail "${name} does not answer" "${log}"
}

answers_or_died() {
  local name="$1"
  shift
  # Twice: while one turns into a daemon, there is none for a moment.
  "$@" || { ! running "${name}" && sleep 0.3 && ! running "${name}"; }
}

start_munged() {
  running munged && [[ -S "${SOCKET}" ]] && return
  end_daemons munged
  if [[ ! -s "${STATE}/munge.key" ]]; then
    mungekey --create --force --keyfile="${STATE}/munge.key" \
      || fail 'mungekey failed'
  fi
  # --force: a parent folder that others cannot enter (a test's temporary one)
  # is then a warning only.
  start_daemon '' "${LOG}/munged.out" munged --force \
    --key-file="${STATE}/munge.key" --socket="${SOCKET}" \
    --pid-file="${RUN}/munged.pid" --log-file="${LOG}/munged.log" \
    --seed-file="${STATE}/munge.seed" --num-threads=2 \
    || fail 'munged does not start' "${LOG}/munged.out"
}

start_mariadbd() {
  local log="${LOG}/mariadbd.log"
  running mariadbd && mariadb_answers && return
  end_daemons mariadbd
  if [[ ! -d "${STATE}/mysql" ]]; then
    # Made aside: one that was interrupted halfway is not taken for a database.
    rm -rf -- "${STATE}/mysql.new"
    TMPDIR="${STATE}" mariadb-install-db --no-defaults --user=root --skip-test-db \
      --auth-root-authentication-method=socket \
      --datadir="${STATE}/mysql.new" >>"${log}" 2>&1 \
      || fail 'mariadb-install-db failed' "${log}"
    mv -- "${STATE}/mysql.new" "${STATE}/mysql"
  fi
  # Every commit waiting for the disk makes slurmdbd slow; without that a
  # crash of the machine, not of a process, may lose the last second.
  # It does not go into the background by itself, hence --fork. A server that
  # starts deletes the temporary tables that it finds, and so would another's.
  start_daemon '' "${log}" setsid --fork mariadbd --no-defaults --user=root \
    --datadir="${STATE}/mysql" --socket="${MYSQL_SOCKET}" --skip-networking \
    --tmpdir="${STATE}" --pid-file="${RUN}/mariadbd.pid" --innodb-flush-log-at-trx-commit=2 \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M \
    --innodb-lock-wait-timeout=900
  wait_for_daemon mariadbd "${log}" mariadb_answers
}

#######################################
# Makes slurmdbd's database, if the server is ready. slurmdbd would make it
# itself, but with MariaDB 11.8 it ends right afterwards (error 5027).
#######################################
mariadb_answers() {
  mariadb --no-defaults --socket="${MYSQL_SOCKET}" \
    -e 'CREATE DATABASE IF NOT EXISTS slurm' >/dev/null 2>&1
}

start_slurmdbd() {
  running slurmdbd && return
  start_daemon "${CONTROLLER}" "${LOG}/slurmdbd.out" slurmdbd \
    || fail 'slurmdbd does not start' "${LOG}/slurmdbd.log"
  wait_for_daemon slurmdbd "${LOG}/slurmdbd.log" port_open "$((PORT + 1))"
}

port_open() {
  (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

start_slurmctld() {
  running slurmctld && return
  mkdir -p -- "${STATE}/slurmctld"
  # -i: a state file that it cannot read (the variant changed) is dropped.
  start_daemon "${CONTROLLER}" "${LOG}/slurmctld.out" slurmctld -i \
    || fail 'slurmctld does not start' "${LOG}/slurmctld.log"
  wait_for_daemon slurmctld "${LOG}/slurmctld.log" controller_answers
}

controller_answers() {
  SLURM_CONF="${CONF}" timeout 20 sinfo -h -o %P >/dev/null 2>&1
}

start_slurmd() {
  local node="$1"
  running slurmd "${node}" && return
  mkdir -p -- "${STATE}/${node}"
  start_daemon "${node}" "${LOG}/slurmd.${node}.out" slurmd -N "${node}" \
    || fail "slurmd of ${node} does not start" "${LOG}/slurmd.${node}.log"
}

#######################################
# Lists those who can submit. With limits enforced, that needs an association.
#######################################
users() {
  printf '%s\n' root "${TEST_USER}" "${SUDO_USER:-root}" | sort -u
}

#######################################
# Adds the cluster, the QOS, the account and its users to the accounting.
#######################################
make_associations() {
  local log="${LOG}/sacctmgr.log" user
  ! accounting_knows "$(users)" || return 0
  # One process for all, as each takes 0.2 to 0.5 s. Its exit status says
  # nothing (what is there already is an error, too): look at the result.
  {
    cat <<EOC
add cluster ${CLUSTER}
add qos preemptible PreemptMode=requeue GraceTime=${GRACE_S}
add qos high Priority=1000 Preempt=preemptible
add qos limited MaxSubmitJobsPerUser=10 MaxJobsPerUser=2
modify cluster ${CLUSTER} set QOS=normal,preemptible,high,limited DefaultQOS=normal
add account ${ACCOUNT} Description=tests Organization=tests
EOC
    for user in $(users); do
      echo "add user ${user} Account=${ACCOUNT}"
    done
  } | SLURM_CONF="${CONF}" sacctmgr -i >"${log}" 2>&1 || true
  accounting_knows "$(users)" || fail 'sacctmgr failed' "${log}"
}

#######################################
# Whether the accounting answers and has all of these users. They are added
# last: with them, the rest is there as well.
# Arguments:
#   Users, one per line, sorted.
#######################################
accounting_knows() {
  local known
  known="$(SLURM_CONF="${CONF}" timeout 20 sacctmgr -nP list associations \
    cluster="${CLUSTER}" account="${ACCOUNT}" format=user 2>/dev/null)" \
    || return 1
  [[ -z "$(comm -23 <(echo "$1") <(sort -u <<<"${known}"))" ]]
}

#######################################
# Whether every node is up and in contact, and the accounting answers.
# Arguments:
#   Users that the accounting must know, one per line, sorted.
#######################################
healthy() {
  nodes_up || return 1
  [[ ! -e "${ETC}/slurmdbd.conf" ]] || accounting_knows "$1"
}

nodes_up() {
  local states
  states="$(SLURM_CONF="${CONF}" timeout 20 sinfo -h -N -o '%N %t' \
    2>/dev/null)" || return 1
  # A * after the state means "does not respond".
  ! grep -vqE ' (idle|mix|alloc|comp|resv|plnd)$' <<<"${states}"
}

#######################################
# Lists the daemons that the installed configuration asks for.
# Outputs:
#   "NAME NODE" per daemon; NODE is - except for slurmd.
#######################################
expected() {
  local node
  echo 'munged -'
  if [[ -e "${ETC}/slurmdbd.conf" ]]; then
    printf '%s\n' 'mariadbd -' 'slurmdbd -'
  fi
  echo 'slurmctld -'
  for node in $(configured_nodes); do
    echo "slurmd ${node}"
  done
}

all_running() {
  local found line
  found="$(daemons | cut -d ' ' -f 2-)"
  while read -r line; do
    grep -qxF -- "${line}" <<<"${found}" || return 1
  done < <(expected)
}

#######################################
# Lists the nodes of the installed configuration.
#######################################
configured_nodes() {
  sed -n 's/^NodeName=\([^ ]*\).*/\1/p' "${CONF}" 2>/dev/null || true
}

#######################################
# Starts what is not running and waits until all is well.
#######################################
bring_up() {
  local node
  mkdir -p -- "${RUN}" "${STATE}"
  {
    echo "127.0.0.1 localhost ${NODE_NAMES[*]} ${CONTROLLER}"
    cat /etc/hosts
  } >"${RUN}/hosts"
  make_devices
  start_munged
  if [[ "${ACCOUNTING}" == yes ]]; then
    start_mariadbd
    start_slurmdbd
    make_associations
  fi
  start_slurmctld
  for node in "${NODE_NAMES[@]}"; do
    start_slurmd "${node}"
  done
  if ! wait_until 10 nodes_up; then
    # A node that once could not kill a job, or was away, is taken out of
    # service until someone says otherwise.
    SLURM_CONF="${CONF}" scontrol update State=RESUME \
      NodeName="$(IFS=,; echo "${NODE_NAMES[*]}")" >/dev/null 2>&1 || true
    wait_until 20 nodes_up \
      || fail 'the nodes do not come up' "${LOG}/slurmctld.log"
  fi
}

#######################################
# Stops everything that is ours and removes the runtime files.
#######################################
bring_down() {
  local jobs nodes
  mapfile -t nodes < <(own_nodes)
  # Without its socket, everything that asks would retry for half a minute.
  if running slurmctld && [[ -S "${SOCKET}" ]] && controller_answers; then
    # By id: with --state and --user, scancel takes one of each only.
    mapfile -t jobs < <(SLURM_CONF="${CONF}" squeue -h -o %F | sort -u)
    if ((${#jobs[@]})); then
      SLURM_CONF="${CONF}" scancel "${jobs[@]}" 2>/dev/null || true
      # Jobs may ignore SIGTERM, and slurmd waits KillWait for them.
      kill_jobs "${nodes[@]}"
      wait_until 5 no_jobs || true
    fi
  fi
  end_daemons slurmctld slurmd
  end_daemons slurmstepd slurmscriptd
  kill_jobs "${nodes[@]}"
  end_daemons slurmdbd
  end_daemons mariadbd
  end_daemons munged
  remove_cgroups "${nodes[@]}"
  rm -rf -- "${RUN:?}"
}

no_jobs() {
  [[ -z "$(SLURM_CONF="${CONF}" squeue -h -o %A 2>/dev/null)" ]]
}
