"""The Ray that the stores of this process live on: whose it is, and when it is left.

Theory: only what this process started is stopped by it. A program that has Ray already, its stores
use; where RAY_ADDRESS names a cluster, they join it; else they start one of their own
(``address="local"``: without it Ray would join whatever somebody left running on the machine). The
stores of one process share it, and the last one to close leaves it.

*Ours or a cluster's?* is no matter of RAY_ADDRESS, but of whether Ray's head is in this process: if
it is, Ray ends with the process, and stores end with their starter. Else they stay up.

Ray waits for a cluster that is gone for minutes, inside calls that nobody can end, and no longer
leaves the process then. So an address is asked before Ray is: for a sign of life by a plain socket,
then for the cluster's id by Ray's own client, with a bound on each.

Limits: one process has one Ray, and a forked child of a process with Ray has none.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import threading
import time
import traceback
from typing import Any

import ray
from ray import _raylet
from ray._private import node, services, worker
from ray.exceptions import RayError

from profile_actors.config import Config
from profile_actors.errors import ConfigError, StoreUnavailable

LONGEST_TEMP_DIR = 40
"""Ray puts sockets below its temp directory, and a socket's path may have 107 bytes."""


HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a gRPC client begins, with an empty SETTINGS frame. Source: RFC 9113, section 3.4."""


SETTINGS_TYPE = 4
"""Type of the frame that a server answers with at once; the frame's fourth byte."""


MIN_ANSWER_S = 1.0
"""What is left for Ray's own question, however long the sign of life took."""


QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


class Runtime:
    """This process's use of Ray: one object for all of its stores. Thread-safe."""

    def __init__(self) -> None:
        self._is_fork = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stores = 0
        self._is_connected_here = False

    def must_start(self) -> bool:
        """Whether a store that opens now has to start a Ray of its own."""
        return self._is_fork or (not ray.is_initialized() and _address() is None)

    def join(self, config: Config) -> bool:
        """Be connected, once more; returns whether this Ray is a cluster that outlives us.

        Raises StoreUnavailable within ``Config.call_timeout_s`` if RAY_ADDRESS does not answer, or
        if a Ray of its own does not start (for which Ray takes its time: half a minute and more);
        ConfigError if it is no address, or in a child forked from a process with Ray.
        """
        with self._lock:
            if self._is_fork:
                raise ConfigError(
                    "expected a process of its own, got one forked from a process that has Ray - at"
                    f" start in process {os.getpid()}; Ray does not survive a fork: start Python"
                    " anew (subprocess, or multiprocessing's 'spawn')"
                )
            if not ray.is_initialized():
                # Of several partitions that refuse, the first is raised here; Ray would print the
                # traceback of each other one.
                os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
                address = _address()
                if address is None:
                    _start(config)
                else:
                    _connect(address, config.call_timeout_s)
                self._is_connected_here = True
                self._stores = 0
            self._stores += 1
            return not is_head_here()

    def leave(self) -> None:
        """One store less. The last one disconnects, and ends Ray if it was started here."""
        with self._lock:
            self._stores = max(0, self._stores - 1)
            if self._stores == 0 and self._is_connected_here:
                self._is_connected_here = False
                ray.shutdown()

    def forked(self) -> None:
        """In the child of a fork: nothing here is the child's to use or to stop."""
        self._begin()
        self._is_fork = ray.is_initialized()


def is_head_here() -> bool:
    """Whether the Ray of this process was started by this process, and ends with it."""
    own: Any = worker._global_node
    return bool(own is not None and own.is_head())


def _address() -> str | None:
    """What RAY_ADDRESS names, None if it asks for an own Ray. Raises ConfigError."""
    wanted = os.environ.get("RAY_ADDRESS", "").strip()
    if "://" in wanted:
        raise ConfigError(
            f"expected host:port, got {wanted!r} - at RAY_ADDRESS; Ray's client is no way for rows:"
            " run the program on a node of the cluster, with RAY_ADDRESS=auto"
        )
    try:
        found = services.canonicalize_bootstrap_address(wanted) if wanted else None
        if found is not None:
            _host_and_port(found)
    except (ValueError, ConnectionError, OSError) as error:
        raise ConfigError(
            f"expected the host:port of a Ray cluster, got {wanted!r} ({error}) - at RAY_ADDRESS;"
            " set it right, or unset it for a Ray of the store's own"
        ) from None
    return found


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("no port from 1 to 65535")
    return host.strip("[]"), int(port)


def _start(config: Config) -> None:
    if "RAY_AUTH_MODE" not in os.environ:
        # Ray then turns token mode on by itself; without this it would write one into the home.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Ray's workers run at nice 15 by default: any other program would come before the partitions.
    os.environ.setdefault("RAY_worker_niceness", "0")
    options: dict[str, Any] = {}
    if len(tempfile.gettempdir()) > LONGEST_TEMP_DIR:
        options["_temp_dir"] = "/tmp/profile-actors-ray"
    try:
        ray.init(
            address="local",
            num_cpus=max(2, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=config.object_store_mb << 20,
            **QUIET,
            **options,
        )
    except Exception as error:  # Ray raises just that where a part of it does not come up
        place = options.get("_temp_dir") or os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        _end_half_started(error)
        raise StoreUnavailable(
            f"expected a Ray of the store's own, got: {_said(error)} - at start with Ray's files in"
            f" {place}; start again if the machine was busy. Else let RAY_TMPDIR name a directory"
            " to write in with a short name, and Config.object_store_mb"
            f" ({config.object_store_mb}) fit into memory; Ray's logs are below"
            f" {place}/ray/session_latest/logs"
        ) from error


def _end_half_started(error: Exception) -> None:
    """End the processes of a Ray that did not come up.

    Ray forgets them, and each attempt would leave its own until this process ends: what they belong
    to is still named in the frames that the error came through.
    """
    frames = traceback.walk_tb(error.__traceback__)
    nodes = [frame.f_locals.get("self") for frame, _ in frames]
    for started in {id(one): one for one in nodes if isinstance(one, node.Node)}.values():
        started.kill_all_processes(check_alive=False)
    ray.shutdown()  # what came up, but was not joined


def _said(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _connect(address: str, timeout_s: float) -> None:
    """Join a cluster that answers. Raises StoreUnavailable."""
    end = time.monotonic() + timeout_s
    problem = _no_sign_of_life(address, timeout_s / 2)
    if not problem:
        left_s = max(MIN_ANSWER_S, end - time.monotonic())
        try:
            client: Any = _raylet
            client.InnerGcsClient.standalone(address, None, int(left_s * 1000))
            ray.init(address=address, **QUIET)
        except (RayError, RuntimeError, OSError, ValueError) as error:
            problem = _said(error)
    if problem:
        wanted = os.environ["RAY_ADDRESS"].strip()
        place = wanted if wanted == address else f"{wanted} ({address})"
        raise StoreUnavailable(
            f"expected a Ray cluster that answers within {timeout_s:g} s, got: {problem} - at"
            f" RAY_ADDRESS={place}; start the cluster, or unset RAY_ADDRESS for a Ray of the"
            " store's own"
        )


def _no_sign_of_life(address: str, timeout_s: float) -> str:
    """Why an address is no gRPC server's; empty if it is one. Never longer than timeout_s."""
    end = time.monotonic() + timeout_s
    answer: list[str] = []

    def ask() -> None:
        try:
            with socket.create_connection(_host_and_port(address), timeout_s) as connection:
                connection.sendall(HTTP2_PREFACE)
                frame = b""
                while len(frame) < 4:
                    connection.settimeout(max(0.01, end - time.monotonic()))
                    piece = connection.recv(64)
                    if not piece:
                        break
                    frame += piece
            is_ours = len(frame) >= 4 and frame[3] == SETTINGS_TYPE
            answer.append("" if is_ours else "something there that does not speak gRPC")
        except TimeoutError:
            answer.append("no answer")
        except OSError as error:
            answer.append(error.strerror or str(error))

    # A name server that does not answer cannot be given a time limit: hence the thread.
    asking = threading.Thread(target=ask, name="sign-of-life", daemon=True)
    asking.start()
    asking.join(timeout_s + 0.1)
    return answer[0] if answer else "no answer"


RUNTIME = Runtime()


os.register_at_fork(after_in_child=RUNTIME.forked)
