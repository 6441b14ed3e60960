"""The broker amqtt for scripts/compare.sh: TCP on loopback, all in memory, no log.

    python broker.py PORT
"""

import asyncio
import logging
import sys

from amqtt.broker import Broker


async def serve(port: int) -> None:
    anonymous = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 0}},
        "plugins": {anonymous: {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()


logging.disable()
asyncio.run(serve(int(sys.argv[1])))
