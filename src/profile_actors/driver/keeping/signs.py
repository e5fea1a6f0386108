"""Whether what is at an address speaks as Ray's head does: asked in bounded time.

Theory: Ray's own attempt to join cannot be ended from outside. So a head is first asked as any gRPC
client would begin; whoever does not answer with a SETTINGS frame is none.
"""

from __future__ import annotations

import socket
import threading
import time

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a gRPC client begins, with an empty SETTINGS frame. Source: RFC 9113, section 3.4."""


SETTINGS_TYPE = 4
"""Type of the frame that a server answers with at once; the frame's fourth byte."""


def parted(address: str) -> tuple[str, int]:
    """Host and port of an address. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("no port from 1 to 65535")
    return host.strip("[]"), int(port)


def no_sign_of_life(address: str, timeout_s: float) -> str:
    """Why an address is no gRPC server's; empty if it is one. Never longer than timeout_s."""
    end = time.monotonic() + timeout_s
    answer: list[str] = []

    def ask() -> None:
        try:
            with socket.create_connection(parted(address), timeout_s) as connection:
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
