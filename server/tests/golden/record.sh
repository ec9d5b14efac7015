#!/usr/bin/env bash
# Records the transcripts beside this script from a real etcd 3.5.1 and the etcdctl programs to
# test with. usage: ETCD=/path/to/etcd ETCDCTLS=/path/to/etcdctl-3.4:/path/to/etcdctl-3.5 record.sh
set -euo pipefail
: "${ETCD:?path of a real etcd 3.5.1}" "${ETCDCTLS:?paths of etcdctl programs, separated by colons}"
version=$("$ETCD" --version)
version=${version%%$'\n'*}
[ "$version" = "etcd Version: 3.5.1" ] || { echo "want etcd 3.5.1, found: $version" >&2; exit 1; }
cd "$(dirname "$0")/../../.."
RAFTWERK_RECORD_ETCD=$ETCD RAFTWERK_ETCDCTLS=$ETCDCTLS \
  cargo test -p raftwerk-tests --features processes --test etcdctl -- \
  --exact etcdctl_shows_what_it_shows_of_a_real_etcd --nocapture
