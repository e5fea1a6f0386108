"""Direct lines: look-ups of processes on the partition's machine, without Ray in between.

Theory: an empty call of a Ray actor costs the two processes some two milliseconds of processor
time, several times what a look-up does. So who is on the same machine asks over a Unix socket: a
frame with the question, a frame with the answer. Ray stays the way for everything else, and the way
that knows what to do about a partition that restarts or refuses: whatever is no plain answer here
is asked again there, which reads bear.

Law: the answer is what ``PartitionActor.read`` gives.

Limits: Linux, one user: the socket has a name in the kernel's abstract namespace and no file. Names
there are public, and a user's other programs may not be trusted: so both ends look at whose process
the other one is, and prove that they know a secret which Ray alone hands out, before anything that
the other says is unpickled.
"""

from __future__ import annotations

import hmac
import os
import pickle
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from threading import BoundedSemaphore, Lock, Thread
from typing import Any

ANSWERED, BEHIND, REFUSED = range(3)
"""What an answer is: bytes, that the definitions here are older than asked for, or none: it is to
be asked by Ray, which has a way to say why."""


_HEAD = struct.Struct("<BQ")  # what it is, and how many bytes follow


_AT_ONCE = 1 << 17  # bytes asked for in one call of the system


SEND_WAIT_S = 60
"""How long an answer waits for its reader to take it, before the line is given up."""


PROOF_WAIT_S = 1
"""How long who has connected may take to prove itself."""


ENDS = (b"driver", b"partition")
"""What each end calls itself in its proof, so that none can be given back as one's own."""


_PROOF_BYTES = 32


PAUSE_S = 0.1
"""After a line that the system refused (no file descriptor is free)."""


def send(line: socket.socket, kind: int, data: bytes) -> None:
    """One frame. Raises OSError."""
    line.sendall(_HEAD.pack(kind, len(data)) + data)


def receive(line: socket.socket, more: Callable[[], bool]) -> tuple[int, bytes]:
    """One frame; the other end sends no other before it has an answer. more: asked whenever the
    line's timeout passes, whether to go on waiting; what it raises comes through.

    Cost: one call of the system for what is small, after which a busy interpreter is to be had
    again. Raises EOFError when the other end has hung up, OSError.
    """
    data = _some(line, _AT_ONCE, more)
    while len(data) < _HEAD.size:
        data += _some(line, _HEAD.size - len(data), more)
    kind, size = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if len(body) > size:
        raise OSError(f"expected a frame of {size} bytes, got {len(body)}")
    return kind, body if len(body) == size else _exactly(line, size, more, body)


def _exactly(line: socket.socket, size: int, more: Callable[[], bool], begun: bytes = b"") -> bytes:
    out = bytearray(size)
    out[: len(begun)] = begun
    rest = memoryview(out)[len(begun) :]
    while rest:
        part = _some(line, min(len(rest), _AT_ONCE), more)
        rest[: len(part)] = part
        rest = rest[len(part) :]
    return bytes(out)


def _some(line: socket.socket, most: int, more: Callable[[], bool]) -> bytes:
    while True:
        try:
            data = line.recv(most)
        except BlockingIOError:  # SO_RCVTIMEO has passed
            if not more():
                raise
            continue
        if not data:
            raise EOFError
        return data


def proven(
    line: socket.socket, secret: bytes, mine: bytes, others: bytes, more: Callable[[], bool]
) -> bool:
    """Prove to the other end that this one knows the secret; whether it does, too. mine, others:
    of ENDS. Costs two short sends each way. Raises as ``receive`` does."""
    asked = secrets.token_bytes(_PROOF_BYTES)
    line.sendall(asked)
    other = _exactly(line, _PROOF_BYTES, more)
    line.sendall(hmac.digest(secret, mine + other, "sha256"))
    answer = _exactly(line, _PROOF_BYTES, more)
    return hmac.compare_digest(answer, hmac.digest(secret, others + asked, "sha256"))


def is_own(line: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    pid_uid_gid = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", pid_uid_gid)[1] == os.getuid())


def set_timeout(line: socket.socket, which: int, seconds: float) -> None:
    """Of sends or receives, by the kernel: Python's own would cost a poll for each. which:
    socket.SO_SNDTIMEO or SO_RCVTIMEO."""
    whole = int(seconds)
    line.setsockopt(
        socket.SOL_SOCKET, which, struct.pack("ll", whole, int((seconds - whole) * 1e6))
    )


class ReadLine:
    """The partition's end. read: called with what was asked. most: lines that are open at a time;
    others are hung up on. at_once: questions that are worked on at a time; others wait."""

    def __init__(self, read: Callable[..., bytes | None], most: int, at_once: int) -> None:
        self._read = read
        self._most = most
        self._turn = BoundedSemaphore(at_once)
        self._lock = Lock()
        self._listener: socket.socket | None = None
        self._lines: set[socket.socket] = set()
        self._is_closed = False
        self._name = f"\0profile-actors-{secrets.token_hex(16)}"
        self._secret = secrets.token_bytes(_PROOF_BYTES)

    def address(self) -> tuple[str, bytes] | None:
        """Where to connect, and the secret to be proven there; None once it is closed. Nothing
        listens before it was first asked."""
        with self._lock:
            if self._is_closed:
                return None
            if self._listener is None:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    listener.bind(self._name)
                    listener.listen(self._most)
                    Thread(target=self._accept, args=(listener,), daemon=True).start()
                except BaseException:  # no descriptor, no thread is free: another time
                    listener.close()
                    raise
                self._listener = listener
            return self._name, self._secret

    def close(self) -> None:
        """Hang up, and take no more lines. Twice is once."""
        with self._lock:
            self._is_closed = True
            open_ones = [*self._lines]
            if self._listener is not None:
                open_ones.append(self._listener)
        for one in open_ones:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # which wakes its thread; that closes it

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._is_closed:
                try:
                    line, _ = listener.accept()
                except OSError:
                    time.sleep(0 if self._is_closed else PAUSE_S)
                    continue
                if not self._takes(line):
                    line.close()
                    continue
                Thread(target=self._serve, args=(line,), name="line", daemon=True).start()

    def _takes(self, line: socket.socket) -> bool:
        with self._lock:
            if self._is_closed or len(self._lines) >= self._most or not is_own(line):
                return False
            self._lines.add(line)
            return True

    def _serve(self, line: socket.socket) -> None:
        """Answer whoever proves to know the secret, until it hangs up."""
        try:
            set_timeout(line, socket.SO_SNDTIMEO, SEND_WAIT_S)
            set_timeout(line, socket.SO_RCVTIMEO, PROOF_WAIT_S)
            is_known = proven(line, self._secret, *ENDS[::-1], lambda: False)
            set_timeout(line, socket.SO_RCVTIMEO, 0)  # between questions it may lie idle
            while is_known:
                _, question = receive(line, lambda: True)
                send(line, *self._answer(question))
        except (OSError, EOFError):
            pass  # whoever asked is gone
        finally:
            with self._lock:
                self._lines.discard(line)
            line.close()

    def _answer(self, question: bytes) -> tuple[int, bytes]:
        asked: tuple[Any, ...] = pickle.loads(question)
        try:
            with self._turn:
                found = self._read(*asked)
        except Exception:  # Ray's way raises it where it is seen
            return REFUSED, b""
        return (BEHIND, b"") if found is None else (ANSWERED, found)
