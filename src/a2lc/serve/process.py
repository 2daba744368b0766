"""Run the server: sockets, threads, memory, and an orderly end."""

from __future__ import annotations

import ctypes
import ipaddress
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn
from anyio import to_thread
from fastapi import FastAPI

from a2lc.errors import InputError
from a2lc.serve.security import host_names

__all__ = ["Server"]


class Server:
    """A place to serve from, held from the start: its port is known before anything is told of it.

    Example:
        >>> server = Server("127.0.0.1", 0)
        >>> app = create_app(desk, token=token, hosts=server.hosts)            # doctest: +SKIP
        >>> address = f"http://{server.address}/?token={token}"                # doctest: +SKIP
        >>> server.run(app, ready=lambda: print(address))                      # doctest: +SKIP
        >>> server.close()
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8765, *, names: Sequence[str] = ()) -> None:
        """Take a port.

        Args:
            host: Name or address of this machine to listen at.
            port: 0 takes any that is free.
            names: More names that people reach this machine by, with a port of their own or with this one's.

        Raises:
            InputError: The port is taken, or the host is not of this machine.
        """
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._socket = socket.create_server((host, port), family=family, backlog=128)
            # asyncio sets this on sockets it made itself; without it each reply waits 40 ms for an acknowledgement.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(
                f"Cannot listen at {host} port {port}: {reason}. Name another with --port, or 0 for any that is free."
            ) from None
        self.host = host
        self.port = int(self._socket.getsockname()[1])
        self._names = tuple(names)
        self._server: uvicorn.Server | None = None
        self._stopped = False

    @property
    def address(self) -> str:
        """`name:port` for people of this machine, or of others where it listens to all."""
        name = socket.gethostname() if _is_any(self.host) else self.host
        return host_names([name], self.port)[0]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Values of the `Host` header that are this server."""
        names = ["127.0.0.1", "localhost", "::1", *([] if _is_any(self.host) else [self.host])]
        if not _is_loopback(self.host):
            names += _own_names()
        extra = [name.lower() for name in self._names if re.search(r":\d+$", name)]
        bare = [name for name in self._names if not re.search(r":\d+$", name)]
        return tuple(dict.fromkeys([*host_names([*names, *bare], self.port), *extra]))

    def run(self, app: FastAPI, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; then let requests under way end, and come back.

        Args:
            app: Of `create_app`.
            ready: Called when requests are answered and signals are heeded: the time to tell people the address.
        """
        _spare_memory()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses hold the token
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        self._server = _Uvicorn(config, ready)
        self._server.should_exit = self._stopped
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()


def _spare_memory() -> None:
    """Give memory of decoded images back at once, which glibc keeps for each thread in case it is wanted again."""
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 2)
        library.mallopt(_MMAP_THRESHOLD, 1 << 16)


_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Of glibc's malloc.h."""


_THREADS = 12
"""Requests worked on at once: more would wait for the two or more cores all the same."""


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal, and no more: uvicorn would raise it again, and what is left to close would stay open."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = [signal.SIGINT, signal.SIGTERM]
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_any(host: str) -> bool:
    return host in {"", "0.0.0.0", "::", "[::]"}


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host.lower() == "localhost"


def _own_names() -> list[str]:
    """Names and addresses that others may reach this machine by."""
    names = [socket.gethostname()]
    with suppress(OSError):
        names += [str(found[4][0]) for found in socket.getaddrinfo(names[0], None) if "%" not in str(found[4][0])]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: the system only says which of its addresses it would use
        names.append(str(probe.getsockname()[0]))
    return list(dict.fromkeys(names))
