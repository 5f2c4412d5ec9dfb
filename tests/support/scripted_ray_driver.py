"""A Ray driver without Ray, which does as it is told: `python -m support.scripted_ray_driver SCRIPT`.

`SCRIPT` is a word: `good` places each worker at once, `full` none, `refuse` joins no cluster, `die` ends as
soon as it has placed one. `headless` places none, says that the head is silent, and 0.5 s later that it
answers. `mute` places a worker and does nothing from then on; `garble` sends what is no message, `large` the
length of a message that is too large, and both live on. A worker ends when it is told to, at any request.
"""

from __future__ import annotations

import asyncio
import os
import sys

from embedfleet.framing import LENGTH, framed
from embedfleet.launchers.channel import Report, pack_body
from embedfleet.launchers.ray.messages import (
    Connect,
    DriverMessage,
    Ended,
    HeadAnswers,
    HeadSilent,
    Node,
    Nodes,
    Place,
    Refused,
    Started,
    Tell,
    WorkerMessage,
    pack,
    receive,
)

NODE = Node("127.0.0.1 (aaaaaaaa)", {"CPU": 2.0})

REPORT = Report(True, None, 2**20, [("x_total", (), 3.0)], ("stub",))
NONSENSE = {"garble": framed(b"\x01\x02"), "large": LENGTH.pack(2**40)}


def say(message: DriverMessage) -> None:
    sys.stdout.buffer.write(pack(message))
    sys.stdout.buffer.flush()


async def drive(script: str) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    assert isinstance(await receive(orders), Connect)
    if script == "refuse":
        say(Refused("token authentication is off", mistaken=True))
        return
    say(Nodes((NODE,)))
    if script == "headless":
        say(HeadSilent(7.0))
        await asyncio.sleep(0.5)
        say(HeadAnswers())
    while (message := await receive(orders)) is not None:
        match message:
            case Place(worker) if script != "full":
                say(Started(worker, f"{NODE.name}, pid {os.getpid()}"))
                say(
                    WorkerMessage(
                        worker, pack_body(Report(True, None, 2**20, [("x_total", (), 3.0)], ("stub",)))
                    )
                )
                if script == "die":
                    return
                if script in NONSENSE:
                    sys.stdout.buffer.write(NONSENSE[script])
                    sys.stdout.buffer.flush()
                if script in ("mute", *NONSENSE):
                    await asyncio.Event().wait()
            case Tell(worker, request):
                say(Ended(worker, None if request == "drain" else request.value))


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1]))
