#!/usr/bin/env bash
# A Ray cluster for the length of a Slurm job, and one command on it: the pipeline, or another.
#
#   sbatch cluster/definitions/slurm.sh                      # from the repository: selftrain run
#   sbatch cluster/definitions/slurm.sh selftrain run select@2
#
# The repository and its .venv lie on a file system that every node sees; storage.url in params.yaml
# is a file:// folder there. Submitted again after its time was up, a run goes on where it was.
#
# Values to set, here or as options of sbatch; there is no partition or account that suits all:
#SBATCH --job-name=selftrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=%x-%j.log
# … and in the environment; each may stay:
VENV=${SELFTRAIN_VENV:-.venv}                # the environment that `make setup` makes
WAIT=${SELFTRAIN_WAIT:-600}                  # seconds until every node has joined, at most
HEAD_IP=${SELFTRAIN_HEAD_IP:-}               # the head on the nodes' network; else by its name
PORT=${SELFTRAIN_PORT:-$((20000 + SLURM_JOB_ID % 10000))}   # the dashboard's and Ray Client's follow
LOCAL=${SELFTRAIN_LOCAL:-/tmp}               # on each node, a short path: Ray's sockets and spill

set -euo pipefail
set -m # each child its own process group, so that it can be ended with what it started
umask 077

fail() {
  echo "slurm.sh: $*" >&2
  exit 1
}

# On a node: Ray until this process is ended; its logs stay in the job's folder.
ray_node() {
  local name=$1 logs=$2 local_folder=$3 ray_pid=
  shift 3
  # shellcheck disable=SC2329 # the trap calls it
  leave() {
    trap - EXIT TERM INT
    if [[ -n $ray_pid ]]; then
      kill -TERM "$ray_pid" 2> /dev/null || true
      for _ in {1..20}; do kill -0 "$ray_pid" 2> /dev/null && sleep 0.5; done
      kill -KILL "$ray_pid" 2> /dev/null || true # still asking for the head: deaf to TERM
    fi
    cp -R "$local_folder/session_latest/logs" "$logs/$name" 2> /dev/null || true
    rm -rf "$local_folder"
  }
  trap leave EXIT
  trap 'exit 143' TERM INT
  mkdir -p "$local_folder"
  ray start --block --temp-dir="$local_folder" "$@" > "$logs/$name.log" 2>&1 &
  ray_pid=$!
  wait "$ray_pid"
}

# One node's Ray through srun, in the background.
start_on() {
  local node=$1 number=$2
  shift 2
  srun --overlap --export=ALL --nodes=1 --ntasks=1 --nodelist="$node" \
    bash -c "$(declare -f ray_node); ray_node \"\$@\"" ray_node \
    "$number-$node" "$folder" "$LOCAL/st-$SLURM_JOB_ID-$number" \
    --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --disable-usage-stats "$@" &
  rays+=($!)
}

# Until so many nodes are there; the job fails where one ends before, or the time is up.
wait_for() {
  count_to "$1" &
  work=($!)
  wait -n "${work[0]}" "${rays[@]}" || fail "Ray did not start on every node; its logs: $folder"
  if kill -0 "${work[0]}" 2> /dev/null; then fail "Ray ended on a node; its logs: $folder"; fi
}

count_to() {
  local end=$((SECONDS + WAIT)) found
  while ((SECONDS < end)); do
    found=$(ray list nodes --address "$HEAD_IP:$PORT" --filter state=ALIVE --format json 2> /dev/null \
      | grep --only-matching '"node_id"' | wc -l) || true
    ((found < $1)) || return 0
    sleep 1
  done
  echo "slurm.sh: $found of $1 nodes are there after $WAIT s (SELFTRAIN_WAIT)" >&2
  return 1
}

# Ends process groups, by id; those that don't listen, after half a minute.
end() {
  local pid waited=0
  for pid in "$@"; do kill -TERM -- "-$pid" 2> /dev/null || true; done
  for pid in "$@"; do
    while kill -0 "$pid" 2> /dev/null && ((waited++ < 60)); do sleep 0.5; done
    kill -KILL -- "-$pid" 2> /dev/null || true
  done
}

clean_up() {
  trap - EXIT TERM INT
  end "${work[@]}"
  end "${rays[@]}"
  rm -f "$RAY_AUTH_TOKEN_PATH"
}

cd "$SLURM_SUBMIT_DIR"
[[ -x $VENV/bin/ray ]] || fail "no $VENV/bin/ray in $PWD: run make setup there, or set SELFTRAIN_VENV"
PATH=$(cd "$VENV/bin" && pwd):$PATH
export PATH RAY_USAGE_STATS_ENABLED=0 DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true
folder=$PWD/.selftrain/slurm-$SLURM_JOB_ID
mkdir -p "$folder"

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/auth_token
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
((${#nodes[@]})) || fail "scontrol names no node for $SLURM_JOB_NODELIST"
if [[ -z $HEAD_IP ]]; then
  HEAD_IP=$(getent ahostsv4 "${nodes[0]}" | awk 'NR == 1 {print $1}')
  [[ -n $HEAD_IP ]] || fail "no address for ${nodes[0]}; set SELFTRAIN_HEAD_IP"
  [[ $HEAD_IP != 127.* || ${#nodes[@]} -eq 1 ]] \
    || fail "${nodes[0]} is $HEAD_IP to itself, which no other node reaches; set SELFTRAIN_HEAD_IP"
fi

rays=() work=()
trap clean_up EXIT
trap 'exit 143' TERM INT
start_on "${nodes[0]}" 0 --head --node-ip-address="$HEAD_IP" --port="$PORT" \
  --dashboard-host=127.0.0.1 --dashboard-port=$((PORT + 1)) --ray-client-server-port=$((PORT + 2))
wait_for 1 # a worker that comes before its head gives up
for ((number = 1; number < ${#nodes[@]}; number++)); do
  start_on "${nodes[number]}" "$number" --address="$HEAD_IP:$PORT"
done
((${#nodes[@]} == 1)) || wait_for "${#nodes[@]}"

(($#)) || set -- selftrain run
echo "slurm.sh: ${#nodes[@]} nodes at $HEAD_IP:$PORT; logs in $folder; running $*"
export RAY_ADDRESS=$HEAD_IP:$PORT
"$@" &
work=($!)
wait "${work[0]}"
