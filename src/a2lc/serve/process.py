"""Run the server: its socket, threads, memory and shutdown."""

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
    """Hold a port and serve an application on it. The port is taken at once, so that it is known before `run`.

    Example:
        >>> server = Server("127.0.0.1", 0)
        >>> app = create_app(desk, token=token, hosts=server.hosts)            # doctest: +SKIP
        >>> address = f"http://{server.address}/?token={token}"                # doctest: +SKIP
        >>> server.run(app, ready=lambda: print(address))                      # doctest: +SKIP
        >>> server.close()
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8765, *, names: Sequence[str] = ()) -> None:
        """Take the port.

        Args:
            host: Name or address of this machine to listen on.
            port: Port number; 0 takes a free one.
            names: Further names by which people reach this machine, with or without `:port`.

        Raises:
            InputError: The port is in use, or the host is not an address of this machine.
        """
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._socket = socket.create_server((host, port), family=family, backlog=128)
            # asyncio sets this on its own sockets; without it each reply waits 40 ms for an acknowledgement.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(
                f"Cannot listen on {host}, port {port}: {reason}. Choose another `port`, or 0 for any free one."
            ) from None
        self.host = host
        self.port = int(self._socket.getsockname()[1])
        self._names = tuple(names)
        self._server: uvicorn.Server | None = None
        self._stopped = False

    @property
    def address(self) -> str:
        """Address to show to people, `name:port`."""
        name = socket.gethostname() if _is_any(self.host) else self.host
        return host_names([name], self.port)[0]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Accepted values of the `Host` header."""
        names = ["127.0.0.1", "localhost", "::1", *([] if _is_any(self.host) else [self.host])]
        if not _is_loopback(self.host):
            names += _own_names()
        extra = [name.lower() for name in self._names if re.search(r":\d+$", name)]
        bare = [name for name in self._names if not re.search(r":\d+$", name)]
        return tuple(dict.fromkeys([*host_names([*names, *bare], self.port), *extra]))

    def run(self, app: FastAPI, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; then finish running requests and return.

        Args:
            app: Made by `create_app`.
            ready: Called when the server accepts requests and handles signals: the time to print the address.
        """
        _spare_memory()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses contain the token
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
        """Release the port."""
        self._socket.close()


def _spare_memory() -> None:
    """Return the memory of decoded images to the system at once; glibc would keep it for each thread."""
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 2)
        library.mallopt(_MMAP_THRESHOLD, 1 << 16)


_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Parameters of glibc's `mallopt`, from malloc.h."""


_THREADS = 12
"""Requests that are handled at once; more would only wait for the cores."""


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
        """Stop on a signal. uvicorn would raise it again, and the desk would not be closed."""
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
    """Return names and addresses by which others may reach this machine."""
    names = [socket.gethostname()]
    with suppress(OSError):
        names += [str(info[4][0]) for info in socket.getaddrinfo(names[0], None) if "%" not in str(info[4][0])]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: the system only chooses an address
        names.append(str(probe.getsockname()[0]))
    return list(dict.fromkeys(names))
