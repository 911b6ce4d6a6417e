# shellcheck shell=bash
#
# Installs what the test bed needs. Sourced by ./slurm.

readonly TEST_USER='tester'

# Not in the state folder: that may be deleted before this is put back.
readonly POLICY_SAVED='/usr/sbin/policy-rc.d.before-testbed'

#######################################
# Installs Debian's packages, if a program is missing.
#######################################
install_packages() {
  local -a packages=(munge slurmctld slurmd slurm-client)
  local -a programs=(munged mungekey slurmctld slurmd sbatch)
  local -a plugin=(/usr/lib/*/slurm*/accounting_storage_mysql.so)
  local program missing=''
  # One that was killed in here left its policy behind.
  if grep -qsF "${MARK}" /usr/sbin/policy-rc.d; then let_services_up; fi
  if [[ "${ACCOUNTING}" == yes ]]; then
    # The -core packages: programs only, no service and no system user.
    packages+=(slurmdbd slurm-wlm-mysql-plugin
      mariadb-server-core mariadb-client-core)
    programs+=(slurmdbd sacctmgr mariadbd mariadb-install-db)
    ((${#plugin[@]})) || missing+=' accounting_storage_mysql.so'
  fi
  for program in "${programs[@]}"; do
    command -v "${program}" >/dev/null || missing+=" ${program}"
  done
  [[ -n "${missing}" ]] || return 0
  command -v apt-get >/dev/null \
    || fail "missing${missing}, and there is no apt-get to install them"
  note "installing packages for${missing}"
  keep_services_down
  apt_install "${packages[@]}" || {
    # The usual reason on a fresh machine: no package lists yet, or old ones.
    apt-get update -qq >>"${LOG}/apt.log" 2>&1 \
      || fail 'apt-get update failed' "${LOG}/apt.log"
    apt_install "${packages[@]}" \
      || fail 'apt-get install failed' "${LOG}/apt.log"
  }
  let_services_up
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends -o Dpkg::Use-Pty=0 -- "$@" \
    >>"${LOG}/apt.log" 2>&1 </dev/null
}

#######################################
# Forbids package scripts to start daemons: the packages' own ones would take
# the usual ports and sockets. A policy that is there already is put back.
#######################################
keep_services_down() {
  trap let_services_up EXIT
  if [[ -e /usr/sbin/policy-rc.d ]]; then
    mv -- /usr/sbin/policy-rc.d "${POLICY_SAVED}"
  fi
  printf '#!/bin/sh\n# %s\nexit 101\n' "${MARK}" >/usr/sbin/policy-rc.d
  chmod 0755 /usr/sbin/policy-rc.d
}

let_services_up() {
  trap - EXIT
  if grep -qsF "${MARK}" /usr/sbin/policy-rc.d; then
    rm -f /usr/sbin/policy-rc.d
  fi
  if [[ -e "${POLICY_SAVED}" ]]; then
    mv -- "${POLICY_SAVED}" /usr/sbin/policy-rc.d
  fi
}

#######################################
# Makes the machine's name resolvable where the daemons have to use it, as
# they can have none of their own: slurmdbd ends at once without.
#######################################
make_host_name() {
  local name
  name="$(hostname)"
  [[ "${NAMESPACES}" == no ]] || return 0
  ! getent ahostsv4 "${name}" >/dev/null || return 0
  note "adding the host name ${name} to /etc/hosts"
  echo "127.0.0.1 ${name}" >>/etc/hosts \
    || fail "the host name ${name} does not resolve: add it to /etc/hosts"
}

make_user() {
  id -- "${TEST_USER}" >/dev/null 2>&1 && return
  useradd --create-home --shell /bin/bash -- "${TEST_USER}" \
    || fail "cannot create the user ${TEST_USER}"
}
