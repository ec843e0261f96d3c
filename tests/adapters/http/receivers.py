"""Receivers for tests: real sockets that do exactly what they are told, however wrong, and write down what reaches them."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Request:
    """As it came in: the head's bytes, its fields (names in lower case), the body."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode().split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@dataclass
class Receiver:
    port: int = 0
    connections: int = 0
    open: int = 0
    bytes_sent: int = 0
    under_way: int = 0
    received: int = 0
    requests: list[Request] = field(default_factory=list)
    stirred: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "/", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def all_closed(self) -> None:
        """Wait until the other side has let go of every connection."""
        async with asyncio.timeout(2), self.stirred:
            await self.stirred.wait_for(lambda: not self.open)

    async def reached(self) -> None:
        """Wait until anything has come in."""
        async with asyncio.timeout(2), self.stirred:
            await self.stirred.wait_for(lambda: self.received > 0)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Receiver], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader, receiver: Receiver) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    request = Request(head, b"")
    request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
    receiver.received += len(head) + len(request.body)
    receiver.requests.append(request)
    receiver.under_way += 1
    return request


def answering(*answers: bytes, close: bool = False) -> Script:
    """Read a request, answer the next of `answers` (the last one repeats), and again until the client leaves."""
    left = list(answers)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        while True:
            await read_request(reader, receiver)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            if close:
                return

    return script


def dripping(*, first: bytes, then: bytes, every: float) -> Script:
    """A slow loris: `first` at once, then one byte of `then` (over and over) each time."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        await read_request(reader, receiver)
        writer.write(first)
        while True:
            for byte in then:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(every)

    return script


def flooding(*, first: bytes, then: bytes) -> Script:
    """`then` for ever, as fast as it is taken."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        await read_request(reader, receiver)
        writer.write(first)
        while True:
            writer.write(then)
            await writer.drain()
            receiver.bytes_sent += len(then)

    return script


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
    """Read whatever comes, and never answer."""
    while data := await reader.read(65_536):
        receiver.received += len(data)
        async with receiver.stirred:
            receiver.stirred.notify_all()


async def deafness(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
    """Neither read nor answer."""
    cast("asyncio.Transport", writer.transport).pause_reading()
    await asyncio.sleep(60)


@asynccontextmanager
async def receiving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", window: int | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        receiver.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
                await script(reader, writer, receiver)
        finally:
            receiver.open -= 1
            writer.transport.abort()
            async with receiver.stirred:
                receiver.stirred.notify_all()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=1_024)
    if window is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    server = await asyncio.start_server(begin, sock=listener, ssl=tls, limit=1 << 20, backlog=1_024)
    receiver.port = listener.getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one test run."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, _certificate("Test Authority", key, "Test Authority", key, (), authority=True))

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.certificate.public_bytes(serialization.Encoding.PEM).decode())

    def serving(self, directory: str, *names: str, expired: bool = False, self_signed: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, issuer_key = ("Someone", key) if self_signed else ("Test Authority", self.key)
        certificate = _certificate("Someone", key, issuer, issuer_key, names, expired=expired)
        path = f"{directory}/server-{certificate.serial_number}.pem"
        with open(path, "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    *,
    expired: bool = False,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=-1 if expired else 1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names:
        entries = [x509.IPAddress(ip_address(n)) if n[-1].isdigit() else x509.DNSName(n) for n in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(entries), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
