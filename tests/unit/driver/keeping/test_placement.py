"""RAY_ADDRESS of no cluster: one sentence in bounded time, whatever is there instead."""

from __future__ import annotations

import inspect
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import services

import profile_actors as pf
from profile_actors.driver.keeping.head import without_addons
from profile_actors.driver.keeping.runtime import wanted_address
from tests.waiting import PROMPT_S

TIMEOUT_S = 1.0


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes every connection and does as told; yields its address."""
    with closing(socket.create_server(("", 0))) as server:
        taken: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                taken.append(connection)
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for connection in taken:
            connection.close()


def say_nothing(connection: socket.socket) -> None:
    """As a head that was paused, or a port behind a firewall that drops."""


def hang_up(connection: socket.socket) -> None:
    connection.close()


def speak_http(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def dribble(connection: socket.socket) -> None:
    """Something, but never enough of it."""
    connection.sendall(b"\0")


@pytest.fixture(autouse=True)
def no_ray_was_started() -> Iterator[None]:
    yield
    assert not ray.is_initialized()


def refusal(
    monkeypatch: pytest.MonkeyPatch, path: Path, address: str, patience_s: float
) -> pf.StoreUnavailable:
    """What a start says; it must say it in time, and let go of the directory."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    config = pf.Config(call_timeout_s=patience_s)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(pf.StoreUnavailable) as error:
            pf.start(path / "s", config=config)
        assert time.monotonic() - began < PROMPT_S
        assert address in str(error.value)
        assert "\n" not in str(error.value)
    return error.value


@pytest.mark.parametrize(
    ("answer", "got", "patience_s"),
    [
        (say_nothing, "no answer", TIMEOUT_S), (dribble, "no answer", TIMEOUT_S),
        (hang_up, "does not speak gRPC|reset", PROMPT_S),
        (speak_http, "does not speak gRPC", PROMPT_S),
    ],
)  # fmt: skip
def test_an_address_where_something_else_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[socket.socket], None],
    got: str,
    patience_s: float,
) -> None:
    with serving(answer) as address:
        assert re.search(got, str(refusal(monkeypatch, tmp_path, address, patience_s)))


def test_words_instead_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``local`` asks for an own Ray beside any other, ``auto`` for the one that was started
    on this machine; without either, that the machine has one is no reason to join it."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # Ray looks for running ones first; there may be another one on this machine.
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    for wanted in ("local", "", " "):
        monkeypatch.setenv("RAY_ADDRESS", wanted)
        assert wanted_address() is None
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("192.0.2.7:6399")
    assert wanted_address() == "192.0.2.7:6399"
    for wanted in ("local", ""):
        monkeypatch.setenv("RAY_ADDRESS", wanted)
        assert wanted_address() is None
    monkeypatch.delenv("RAY_ADDRESS")
    assert wanted_address() is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no-such-host.invalid"])
def test_an_address_where_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"{host}:{port}")
    began = time.monotonic()
    with pytest.raises(pf.StoreUnavailable, match="RAY_ADDRESS"):
        pf.start(tmp_path / "s", config=pf.Config(call_timeout_s=TIMEOUT_S))
    assert time.monotonic() - began < PROMPT_S


@pytest.mark.parametrize(
    "address", ["6379", "host", "host:", ":6379", "host:port", "host:99999", "ray://host:10001"]
)
def test_what_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(pf.ConfigError, match="RAY_ADDRESS"):
        pf.start(tmp_path / "s")


def test_ray_imports_no_addons_where_it_sends_nothing_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Private names of Ray: ``serialization.serialization_addons``, and that it is called so."""
    from ray._private import serialization

    addons: Any = vars(serialization)["serialization_addons"]
    monkeypatch.setattr(addons, "apply", addons.apply)  # put back
    with pytest.raises(AttributeError):
        addons.apply(object())
    without_addons()
    assert addons.apply(object()) is None
    assert "serialization_addons.apply(self)" in inspect.getsource(serialization)
