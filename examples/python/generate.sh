#!/bin/sh
# Makes the stubs of bus.proto in generated/: with protoc and grpc_python_plugin
# (Debian: protobuf-compiler, protobuf-compiler-grpc, libprotobuf-dev), else with the grpcio-tools of
# the interpreter that PYTHON names (1.38 or newer; Debian 12's is too old).
set -eu
cd "$(dirname "$0")"
mkdir -p generated
set -- -I ../../proto --python_out=generated --grpc_python_out=generated postbus/v1/bus.proto
if plugin=$(command -v grpc_python_plugin); then
	exec protoc --plugin=protoc-gen-grpc_python="$plugin" "$@"
fi
exec "${PYTHON:-python3}" -m grpc_tools.protoc "$@"
