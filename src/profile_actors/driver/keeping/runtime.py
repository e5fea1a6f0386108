"""The Ray that the stores of this process live on: whose it is, and when it is left.

Theory: only what this process started is stopped by it. A program that has Ray already, its stores
use; where RAY_ADDRESS names a cluster, they join it; else they start one of their own
(``address="local"``: without it Ray would join whatever somebody left running on the machine), or
attach to that of the process that runs the store. The stores of one process share it, and the last
one to close leaves it.

*Ours or a cluster's?* is no matter of RAY_ADDRESS, but of whether Ray's head is in this process: if
it is, Ray ends with the process, and stores end with their starter. Else they stay up.

Ray waits for a cluster that is gone for minutes, inside calls that nobody can end, and no longer
leaves the process then. So an address is asked before Ray is (``signs``), and a Ray that this
process attached to is left as soon as its keeper ends (``watch``); calls wait meanwhile.

Limits: one process has one Ray, and a forked child of a process with Ray has none.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import services
from ray.exceptions import AuthenticationError, RayError

from profile_actors.actors.calls import Session
from profile_actors.config import Config
from profile_actors.driver.keeping.attach import (
    Attachment,
    check_understood,
    new_token,
    running,
    token_of,
)
from profile_actors.driver.keeping.head import (
    end_half_started,
    is_head_here,
    lean_start,
    one_line_of,
)
from profile_actors.driver.keeping.interrupts import interrupts_later
from profile_actors.driver.keeping.signs import no_sign_of_life, parted
from profile_actors.errors import ConfigError, ProfileActorsError, StoreUnavailable

LONGEST_TEMP_DIR = 40
"""Ray puts sockets below its temp directory, and a socket's path may have 107 bytes."""


MIN_ANSWER_S = 1.0
"""What is left for Ray's own question, however long the sign of life took."""


LOOK_S = 0.2
"""Between two looks at whether the keeper of an attached store is still there."""


REFUSED_TOKEN = "InvalidAuthToken"
"""What Ray's own client says of a token that is wrong, in an error without a class of its own."""


QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class Runtime:
    """This process's use of Ray: one object for all of its stores. Thread-safe."""

    def __init__(self) -> None:
        self._is_fork = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._sessions: list[Session] = []
        self._is_connected_here = False
        self._attached: Path | None = None
        self._environment: dict[str, str | None] = {}
        self.token = ""
        """Of the Ray that was started here for stores; empty where there is none."""

    def must_start(self) -> bool:
        """Whether a store that opens now has to start a Ray of its own."""
        return self._is_fork or (not ray.is_initialized() and _address() is None)

    def join(self, config: Config, session: Session) -> bool:
        """Be connected, once more; returns whether this Ray is a cluster that outlives us.

        Raises StoreUnavailable within ``Config.call_timeout_s`` if RAY_ADDRESS does not answer, or
        if a Ray of its own does not start (for which Ray takes its time: half a minute and more);
        ConfigError if it is no address, in a child forked from a process with Ray, or where this
        process is attached to another store's own Ray.
        """
        with self._lock:
            self._refuse_fork("start")
            if self._attached is not None:
                raise ConfigError(
                    "expected a process without Ray, or on a cluster, got one that is attached to"
                    f" the store of {self._attached}, whose Ray ends with it - at start; close that"
                    " store first, start this one in a process of its own (`profile-actors"
                    " start`), or run both on one cluster (RAY_ADDRESS)"
                )
            if not ray.is_initialized():
                address = _address()
                if address is None:
                    self._start(config)
                else:
                    _connect(address, config.call_timeout_s)
                self._is_connected_here = True
            self._sessions.append(session)
            return not is_head_here()

    def _start(self, config: Config) -> None:
        self.token = new_token()
        self._authenticate(self.token)
        try:
            _start(config)
        except BaseException:
            self.token = ""
            self._restore()
            raise

    def join_running(self, address: str | None, config: Config, session: Session) -> None:
        """Be connected to the cluster of RAY_ADDRESS, or to the Ray that the program has."""
        with self._lock:
            self._refuse_fork("connect")
            if not ray.is_initialized():
                assert address is not None
                _connect(address, config.call_timeout_s)
                self._is_connected_here = True
            self._sessions.append(session)

    def attach(self, data: Path, found: Attachment, session: Session, timeout_s: float) -> None:
        """Be connected to the Ray of a running store.

        Raises ConfigError at once where this process has another Ray, in a forked child, and for a
        token that is missing or wrong, or a store of another release; StoreUnavailable within
        timeout_s if the Ray is silent.
        """
        with self._lock:
            self._refuse_fork("connect")
            if ray.is_initialized():
                here = address_here()
                if here != found.address:
                    whose = f"the store of {self._attached}" if self._attached else "this program"
                    raise ConfigError(
                        f"expected a process without Ray, or with that of the store of {data}"
                        f" ({found.address}), got one with the Ray of {whose} ({here}) - at"
                        " connect; a process has one Ray: close what uses it first, attach from"
                        " another process, or run both stores on one cluster (RAY_ADDRESS)"
                    )
            else:
                self._attach(found, timeout_s)
                self._is_connected_here = True
                self._attached = data
                threading.Thread(
                    target=self._watch, args=(data, found), name="keeper-watch", daemon=True
                ).start()
            session.may_come_again = self._attached is not None
            self._sessions.append(session)

    def _attach(self, found: Attachment, timeout_s: float) -> None:
        check_understood(found)
        self._authenticate(token_of(found))
        try:
            whose = f"the store that {found.keeper} runs"
            _join(found.address, timeout_s, whose, found.token_file)
        except BaseException:
            self._restore()
            raise

    def _watch(self, data: Path, found: Attachment) -> None:
        """Leave the Ray of an attached store when its keeper ends, and join the next keeper's."""
        while True:
            time.sleep(LOOK_S)
            with self._lock:
                if self._attached != data or not self._sessions:
                    return
                if running(data) == found:
                    continue
                for session in self._sessions:
                    session.go_away(f"the store was stopped ({found.keeper} has ended)")
                self._disconnect()
            again = self._await_keeper(data, found)
            if again is None:
                return
            found = again

    def _await_keeper(self, data: Path, last: Attachment) -> Attachment | None:
        """The keeper that runs the same store again, joined; None once nobody waits for it."""
        while True:
            time.sleep(LOOK_S)
            found = running(data)
            with self._lock:
                if self._attached != data or not self._sessions:
                    return None
                if found is None or ray.is_initialized():
                    continue
                why = ""
                if found.store != last.store:
                    why = f"another store is in the directory now ({found.store})"
                else:
                    try:
                        self._attach(found, LOOK_S * 25)
                    except ProfileActorsError as error:
                        why = str(error)
                for session in self._sessions:
                    session.go_away(why) if why else session.come_back()
                if not why:
                    return found

    def leave(self, session: Session) -> None:
        """One store less. The last one disconnects, and ends Ray if it was started here."""
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)
            if not self._sessions and self._is_connected_here:
                self._is_connected_here = False
                self._attached = None
                self.token = ""
                self._disconnect()

    def _disconnect(self) -> None:
        _shutdown()
        self._restore()

    def _authenticate(self, token: str) -> None:
        """Use a token in this process, and in those that it starts, until ``_restore``."""
        if not self._environment:
            self._environment = {name: os.environ.get(name) for name in AUTHENTICATION}
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = token
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        _reread_authentication()

    def _restore(self) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._environment:
            self._environment = {}
            _reread_authentication()

    def _refuse_fork(self, at: str) -> None:
        if self._is_fork:
            raise ConfigError(
                "expected a process of its own, got one forked from a process that has Ray - at"
                f" {at} in process {os.getpid()}; Ray does not survive a fork: start Python"
                " anew (subprocess, or multiprocessing's 'spawn')"
            )

    def forked(self) -> None:
        """In the child of a fork: nothing here is the child's to use or to stop."""
        self._begin()
        self._is_fork = ray.is_initialized()


def _reread_authentication() -> None:
    """Ray reads the mode when it is imported, and a token once a process."""
    known: Any = _raylet
    known.Config.initialize("")
    known.AuthenticationTokenLoader.instance().reset_cache()


def address_here() -> str:
    """Where the head of this process's Ray is, host:port."""
    return str(ray.get_runtime_context().gcs_address)


def wanted_address() -> str | None:
    """What RAY_ADDRESS names; None where this process has Ray, or none is named."""
    return None if ray.is_initialized() else _address()


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
            parted(found)
    except (ValueError, ConnectionError, OSError) as error:
        raise ConfigError(
            f"expected the host:port of a Ray cluster, got {wanted!r} ({error}) - at RAY_ADDRESS;"
            " set it right, or unset it for a Ray of the store's own"
        ) from None
    return found


def _be_quiet() -> None:
    """Of several partitions that refuse, the first is raised by us; Ray would print the traceback
    of each other one."""
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")


def _shutdown() -> None:
    with interrupts_later():
        ray.shutdown()


def _start(config: Config) -> None:
    _be_quiet()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Ray's workers run at nice 15 by default: any other program would come before the partitions.
    os.environ.setdefault("RAY_worker_niceness", "0")
    options: dict[str, Any] = {}
    if len(tempfile.gettempdir()) > LONGEST_TEMP_DIR:
        options["_temp_dir"] = "/tmp/profile-actors-ray"
    try:
        with lean_start():
            ray.init(
                address="local",
                num_cpus=max(2, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=config.object_store_mb << 20,
                **QUIET,
                **options,
            )
    except KeyboardInterrupt as error:
        # Not later: what was interrupted with this process, in a terminal, may never come up.
        with interrupts_later():
            end_half_started(error)
        raise
    except Exception as error:  # Ray raises just that where a part of it does not come up
        place = options.get("_temp_dir") or os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        end_half_started(error)
        raise StoreUnavailable(
            f"expected a Ray of the store's own, got: {one_line_of(error)} - at start with Ray's"
            f" files in {place}; start again if the machine was busy. Else let RAY_TMPDIR name a"
            " directory to write in with a short name, and Config.object_store_mb"
            f" ({config.object_store_mb}) fit into memory; Ray's logs are below"
            f" {place}/ray/session_latest/logs"
        ) from error


def _connect(address: str, timeout_s: float) -> None:
    """Join the cluster of RAY_ADDRESS. Raises StoreUnavailable."""
    wanted = os.environ["RAY_ADDRESS"].strip()
    place = wanted if wanted == address else f"{wanted} ({address})"
    try:
        _join(address, timeout_s, "", "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token")
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"expected a Ray cluster that answers within {timeout_s:g} s, got: {error} - at"
            f" RAY_ADDRESS={place}; start the cluster, or unset RAY_ADDRESS for a Ray of the"
            " store's own"
        ) from None


def _join(address: str, timeout_s: float, whose: str, token_place: str) -> None:
    """Join a Ray that answers. whose: what is there, for people, empty for a cluster.

    Raises StoreUnavailable, ConfigError at once if it refuses this process's token.
    """
    _be_quiet()
    end = time.monotonic() + timeout_s
    problem = no_sign_of_life(address, timeout_s / 2)
    if not problem:
        left_s = max(MIN_ANSWER_S, end - time.monotonic())
        try:
            client: Any = _raylet
            client.InnerGcsClient.standalone(address, None, int(left_s * 1000))
            with interrupts_later():
                ray.init(address=address, **QUIET)
        except (RayError, RuntimeError, OSError, ValueError) as error:
            problem = one_line_of(error)
            if isinstance(error, AuthenticationError) or REFUSED_TOKEN in problem:
                raise ConfigError(
                    f"expected the token of the Ray at {address}, got another one, or none - at"
                    f" {token_place}; copy it from who started that Ray, or start it again"
                ) from None
    if problem and whose:
        problem = f"expected {whose}, got: {problem} - at {address}; try again in a moment"
    if problem:
        raise StoreUnavailable(problem)


RUNTIME = Runtime()


os.register_at_fork(after_in_child=RUNTIME.forked)
