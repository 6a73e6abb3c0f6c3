"""The client, for scripts and agents: ``Client`` blocks, ``AsyncClient`` is for asyncio.

    with Client() as lmxd, lmxd.request("llama-3.1-8b") as lease:
        openai = OpenAI(base_url=lease.base_url, api_key=lease.api_key)

The connection holds the lease, unless another ``hold`` is given: the lease ends when the client ends, in whatever way.
Every failure is an ``LmxdError`` with the daemon's code and remedy.
"""

from lmxd.rpc.client.asynchronous import AsyncClient
from lmxd.rpc.client.blocking import Client
from lmxd.rpc.client.leases import AsyncLease, BlockingLease
from lmxd.rpc.client.wire import SYSTEM_SOCKET, ConnectionLost, default_socket, own_socket

__all__ = [
    "SYSTEM_SOCKET",
    "AsyncClient",
    "AsyncLease",
    "BlockingLease",
    "Client",
    "ConnectionLost",
    "default_socket",
    "own_socket",
]
