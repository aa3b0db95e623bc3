"""A provider plugin that Pulumi's engine starts: it prints its port, as they all do.

STAND_IN names the package; engine.py writes the scripts that start it so.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from pulumi import provider
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc

from .component import Eks
from .provider import StandIn


def main(package: str) -> None:
    if package == "eks":
        provider.main(Eks("4"), sys.argv[1:])
        return
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=_GRPC_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(StandIn(package), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(os.environ["STAND_IN"])
