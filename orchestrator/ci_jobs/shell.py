"""The graph as a shell script: each job a process with a checkout, a home and an output folder of its own.

A person runs it on one machine, to see what the services would do; only files pass between the jobs.
"""

import shlex
from dataclasses import replace
from typing import Final

from orchestrator.ci_jobs.graph import APART, PLAN_FILE, PROOFS, PUBLISH, SHARDS, STAGING, Job, Parcel
from orchestrator.ci_rules import CiRules

PATH: Final = "ci/release"
HEAD: Final = """#!/usr/bin/env bash
# Runs the jobs of a release on this machine: `relbuild ci shell --write` wrote it.
# usage: ci/release [JOB...]     without names, all of them in order
#   RELBUILD          the program; without it, that of [ci] in this checkout
#   RELBUILD_JOBS     where the jobs have their folders (a new folder below /tmp)
#   RELBUILD_APPROVE  "yes" lets the publish job run without asking; without a terminal nothing else does
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
"""
_FRAME: Final = """\
root=$(pwd -P)
relbuild=${RELBUILD:-PROGRAM}
jobs=${RELBUILD_JOBS:-$(mktemp -d -t relbuild-jobs-XXXXXX)}
parcels=$jobs/parcels
mkdir -p "$parcels"

say() { printf 'release: %s\\n' "$*" >&2; }

begin() { # begin JOB: a checkout of this commit and a home, for that job alone
  say "job $1"
  rm -rf "${jobs:?}/$1"
  mkdir -p "$jobs/$1/home"
  git clone --quiet --no-hardlinks "$root" "$jobs/$1/checkout"
  cd "$jobs/$1/checkout"
  export HOME=$jobs/$1/home
}

lay() { # lay FILE VARIABLE: a secret of the environment, or what lies in this checkout where that is not set
  mkdir -p "$(dirname "$1")"
  if [[ -n ${!2:-} && $1 == */ ]]; then
    (umask 077 && mkdir -p "$1" && base64 -d <<<"${!2}" | tar --no-same-owner -xz -C "$1")
  elif [[ -n ${!2:-} ]]; then
    (umask 077 && printf '%s\\n' "${!2}" > "$1")
  elif [[ -e $root/$1 ]]; then
    cp -R -p "$root/${1%/}" "$(dirname "$1")/"
  else
    say "neither \\$$2 nor $1 is there"
    return 1
  fi
}

forget() { # forget FILE...: however the job ends, what is laid there does not stay
  laid=("${@/#/$PWD/}")
  trap 'rm -rf -- "${laid[@]}"' EXIT
}

share() { # share FOLDER: the repository is not the job's own
  mkdir -p -- "$root/$1" "$(dirname -- "$1")"
  ln -s -- "$root/$1" "$1"
}

approve() { # approve ENVIRONMENT: a person says yes
  [[ ${RELBUILD_APPROVE:-} == yes ]] && return
  [[ -t 0 ]] || { say "$1 wants an approval: RELBUILD_APPROVE=yes, or a terminal"; return 1; }
  read -r -p "release: $1: go on? [y/N] " answer
  [[ $answer == y ]]
}
"""
_LOOP: Final = """\
(($#)) || set -- NAMES
for job in "$@"; do
  ("job_${job//-/_}")
done
say "the jobs' folders are in $jobs"
"""


def rules_of(rules: CiRules) -> CiRules:
    """Give the rules as one machine can follow them: it is of one kind, and builds for all targets."""
    return replace(rules, runners={})


def render(graph: tuple[Job, ...], rules: CiRules) -> str:
    """Give the text of the managed block. The program is this checkout's own: one machine sets up once."""
    program = rules.program if rules.program.startswith("/") else f"$root/{rules.program}"
    frame = _FRAME.replace("PROGRAM", program if "/" in rules.program else rules.program)
    names = " ".join(job.name for job in graph)
    secrets = frozenset(name for job in graph for name in job.secrets)
    return "\n".join(
        [frame, *(_function(job, rules, secrets - job.secrets) for job in graph), _LOOP.replace("NAMES", names)]
    )


def _function(job: Job, rules: CiRules, others: frozenset[str]) -> str:
    """Give a job as a function. `others` are the secrets that are none of its own."""
    lines = [f"unset -v {shlex.join(sorted(others))}"] if others else []
    lines += [f"approve {job.environment}"] if job.environment and job.name == PUBLISH else []
    lines += [f"begin {job.name}", APART]
    lines += [_take(parcel) for parcel in job.takes]
    lines += [f"forget {shlex.join(job.files)}"] if job.files else []
    lines += [f"lay {path} {secret}" for path, secret in job.files.items()]
    lines += [f"share {shlex.quote(job.repository)}"] if job.repository else []
    lines += [line.replace(rules.program, '"$relbuild"', 1) for each in job.commands for line in each.splitlines()]
    if job.gives is not None:
        lines += _give(job.gives)
    body = "\n".join(f"  {line}" for line in lines)
    return f"job_{job.name.replace('-', '_')}() {{ # {job.title}\n{body}\n}}\n"


def _take(parcel: Parcel) -> str:
    match parcel:
        case Parcel.PLAN:
            return f'cp "$parcels/plan.json" {PLAN_FILE}'
        case Parcel.SHARD:
            return f'mkdir -p {SHARDS} && cp -R "$parcels"/shards/. {SHARDS}/'
        case Parcel.RELEASE:
            return f'mkdir -p {STAGING} && cp -R "$parcels"/staging/. {STAGING}/'
        case Parcel.PROOF:
            return f'mkdir -p {PROOFS} && cp -R "$parcels"/proof/. {PROOFS}/'


def _give(parcel: Parcel) -> list[str]:
    match parcel:
        case Parcel.PLAN:
            return [f'cp {PLAN_FILE} "$parcels/"']
        case Parcel.SHARD:
            return ['mkdir -p "$parcels/shards"', f'cp -R {SHARDS}/. "$parcels/shards/"']
        case Parcel.RELEASE:
            return ['rm -rf "$parcels/staging"', f'cp -R {STAGING} "$parcels/staging"']
        case Parcel.PROOF:
            return ['rm -rf "$parcels/proof"', f'cp -R {PROOFS} "$parcels/proof"']
