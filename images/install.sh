#!/bin/sh
# The first stage of every image: a virtual environment in /opt/venv, in two steps so that a change of the code leaves
# the layer of packages as it is.
#
#   sh install.sh packages    what requirements.txt names, each file held against its hash, and torch where it says so
#   sh install.sh project     the code in ./src, and /opt/venv/sbom.json of all that is installed
#
# Packages are taken without their dependencies, since requirements.txt is complete (see Makefile on pycosat): no wheel
# and no source needs a compiler. torch has a build of its own for CPU and each CUDA, so its hash is not known here:
# TORCH_ARGS says where pip takes it from, e.g. "--index-url https://download.pytorch.org/whl/cpu".
set -eu
pip() { /opt/venv/bin/python -m pip "$@"; }
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

case "$1" in
packages)
    python3 -m venv /opt/venv
    pip install --require-hashes --no-deps -r build.txt
    pip install --require-hashes --no-deps --no-build-isolation -r requirements.txt
    torch=$(sed -n 's/^# apart: \(torch==[^ ;]*\).*/\1/p' requirements.txt)
    # shellcheck disable=SC2086  # several words
    if [ -n "$torch" ]; then pip install ${TORCH_ARGS:-} "$torch"; fi
    python3 -m venv sbom
    sbom/bin/python -m pip install --require-hashes --no-deps -r sbom.txt
    ;;
project)
    if [ -d src ]; then pip install --no-deps --no-build-isolation ./src; fi
    sbom/bin/cyclonedx-py environment --output-reproducible --output-format JSON -o /opt/venv/sbom.json /opt/venv/bin/python
    ;;
*)
    echo "install.sh: expected 'packages' or 'project', got '$1'" >&2
    exit 2
    ;;
esac
