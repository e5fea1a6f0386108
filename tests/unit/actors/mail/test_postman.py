"""Messages arrive, in order and once, over calls that fail, hang, are lost or say too little."""

from __future__ import annotations

import random
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from profile_actors.actors.mail import postman as module
from profile_actors.actors.mail.postman import Postman
from profile_actors.definitions.declared import Catalogue, Namespace
from profile_actors.engine.identity.ledger import Ledger
from profile_actors.engine.identity.mailbox import Mailbox
from profile_actors.engine.identity.messages import LINK, Message, Named, Op, decode_messages
from profile_actors.engine.log.in_memory import MemoryLog
from profile_actors.errors import StoreUnavailable
from tests.waiting import until

CATALOGUE = Catalogue(1, {"ECID": Namespace("ECID", "cookie")})


class Partitions:
    """Receivers of two partitions, reached by calls that fail as ``chance`` will have it."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.boxes = {"0": Mailbox(), "1": Mailbox()}
        self.taken: dict[str, list[Message]] = {"0": [], "1": []}
        self.asked: list[tuple[str, str]] = []
        self.needs = dict.fromkeys(self.boxes, 0)
        self.version = dict.fromkeys(self.boxes, 0)
        self._chance = chance
        self._pool = ThreadPoolExecutor(4)

    def call(self, to: str, method: str, *args: Any) -> Future[Any]:
        self.asked.append((to, method))
        fate = self._chance.random() if self._chance else 1.0
        if fate < 0.1:
            raise ValueError("no such actor")
        if fate < 0.2:
            return Future()  # nobody ever answers
        return self._pool.submit(self._answer, fate, to, method, args)

    def _answer(self, fate: float, to: str, method: str, args: tuple[Any, ...]) -> Any:
        if fate < 0.3:
            raise StoreUnavailable("it restarts")
        answer = getattr(self, method)(to, *args)
        if fate < 0.4:
            raise StoreUnavailable("the answer was lost")
        return answer

    def cursor_of(self, to: str, source: str) -> int:
        return self.boxes[to].cursor(source)

    def define(self, to: str, catalogue: Catalogue) -> int:
        self.version[to] = max(self.version[to], catalogue.version)
        return self.version[to]

    def deliver(self, to: str, source: str, data: bytes) -> tuple[str, int]:
        box = self.boxes[to]
        if self.version[to] < self.needs[to]:
            return "behind", box.cursor(source)
        for message in decode_messages(data):
            if box.take(source, message.number) == "next":
                self.taken[to].append(message)
        return "ok", box.cursor(source)


def linked(ledger: Ledger, first: int, count: int) -> None:
    """So many entries that tell both partitions something."""
    for number in range(first, first + count):
        one, other = (Named(half << 52, number, "ECID", f"{half}-{number}") for half in (0, 1))
        op = Op(LINK, one, other, version=number)
        ledger.commit([Message("0", number, 0, 1, (op,))], None, CATALOGUE)


def opened(log: MemoryLog) -> Ledger:
    return Ledger(log, np.arange(4096, dtype=np.int32) % 2)


@pytest.mark.parametrize("seed", range(3))
def test_all_arrives_in_order_whatever_is_lost(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "MESSAGES_PER_CALL", 3)
    partitions = Partitions(random.Random(seed))
    log = MemoryLog()
    ledger = opened(log)
    for start in (1, 11):
        postman = Postman("L", ledger, partitions.call, timeout_s=0.05)
        postman.start()
        for number in range(start, start + 10):
            linked(ledger, number, 1)
            postman.notify()
        if start == 11:
            until(ledger.mailbox.is_quiet)
        postman.stop()
        ledger = opened(log)  # a restart: what was acknowledged is not known
    for to, messages in partitions.taken.items():
        assert messages == ledger.outgoing(to, 0, 99)
        assert len(messages) == 20


def test_after_a_start_the_cursor_is_asked_first_and_nothing_is_sent_again() -> None:
    partitions = Partitions()
    log = MemoryLog()
    for start in (1, 2):
        ledger = opened(log)
        linked(ledger, start, 1)
        partitions.asked.clear()
        postman = Postman("L", ledger, partitions.call, timeout_s=5)
        postman.start()
        until(ledger.mailbox.is_quiet)
        postman.stop()
        assert [method for to, method in partitions.asked if to == "1"] == ["cursor_of", "deliver"]
    assert [message.number for message in partitions.taken["1"]] == [1, 2]


def test_a_receiver_that_lacks_definitions_is_given_them() -> None:
    partitions = Partitions()
    partitions.needs["1"] = 1
    ledger = opened(MemoryLog())
    linked(ledger, 1, 1)
    postman = Postman("L", ledger, partitions.call, timeout_s=5)
    postman.start()
    until(ledger.mailbox.is_quiet)
    postman.stop()
    assert partitions.version == {"0": 0, "1": 1}


def test_what_is_not_acknowledged_and_why_is_told() -> None:
    class Away(Partitions):
        def deliver(self, to: str, source: str, data: bytes) -> tuple[str, int]:
            if to == "1":
                raise StoreUnavailable("no room")
            return super().deliver(to, source, data)

    ledger = opened(MemoryLog())
    linked(ledger, 1, 2)
    postman = Postman("L", ledger, Away().call, timeout_s=5)
    postman.start()
    until(lambda: postman.account()["1"].error != "" and not ledger.mailbox.unacknowledged("0"))
    until(lambda: postman.account()["1"].age_ms > 20)
    account = postman.account()
    postman.stop()
    assert (account["1"].depth, account["1"].error) == (2, "StoreUnavailable: no room")
    assert (account["0"].depth, account["0"].age_ms, account["0"].error) == (0, 0, "")


def test_a_receiver_that_lost_messages_is_told_of_and_sent_nothing() -> None:
    partitions = Partitions()
    ledger = opened(MemoryLog())
    linked(ledger, 1, 2)
    postman = Postman("L", ledger, partitions.call, timeout_s=5)
    postman.start()
    until(ledger.mailbox.is_quiet)
    partitions.boxes["1"] = Mailbox()
    linked(ledger, 3, 1)
    postman.notify()
    until(lambda: "lost some" in postman.account()["1"].error)
    postman.stop()
    assert partitions.boxes["1"].cursor("L") == 0
