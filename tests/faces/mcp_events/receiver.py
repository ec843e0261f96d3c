"""A webhook receiver on this machine."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """Echoes challenges, answers as told, then 200; keeps what it got, and where it was sent.

    `proves`: its status and what it makes of a nonce, where that is no echo. `silent`: it answers nothing.
    """

    url: str = ""
    connections: int = 0
    echoes: bool = True
    proves: tuple[int, Callable[[str], object]] | None = None
    silent: bool = False
    targets: list[str] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(default_factory=dict)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [body for body in self.bodies if "type" not in body]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [body for body in self.bodies if body.get("type") == kind]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(90):
            while not true():
                await asyncio.sleep(0.005)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open[writer] = asyncio.current_task()
        try:
            while line := await reader.readline():
                verb, target, _ = line.decode().split(" ")
                assert verb == "POST"
                self.targets.append(target)
                headers: dict[str, str] = {}
                while (line := await reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers["content-length"]))
                self.got.append((headers, body))
                if self.silent:
                    await asyncio.Event().wait()
                told = json.loads(body)
                answer, status = b"", 200
                if told.get("type") == "verification":
                    status, proof = self.proves or (200, lambda nonce: {"challenge": nonce if self.echoes else "x"})
                    answer = json.dumps(proof(told["challenge"])).encode()
                elif self.statuses:
                    status = self.statuses.pop(0)
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(answer), answer))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            del self.open[writer]
            writer.close()


@asynccontextmanager
async def a_receiver(port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?tenant=1"
    try:
        yield receiver
    finally:
        server.close()
        ending = [task for task in receiver.open.values() if task is not None]
        for writer in list(receiver.open):
            writer.close()
        if receiver.silent:
            for task in ending:
                task.cancel()
        if ending:
            await asyncio.wait(ending)
