"""How a log's two processes talk to each other, and what they are called.

Theory: by the actor's name, for its process comes and goes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import ray

from profile_actors.actors.mail.peers import LEDGER_ACTOR, actor_of
from profile_actors.engine.shipping.shipper import Arrival, Shipment
from profile_actors.errors import StoreUnavailable
from profile_actors.storage.files.layout import LEDGER, sequencer_of

FETCH_S = 30.0
"""How long is waited for an entry that is damaged in one copy of a log."""


ENCODER = msgspec.msgpack.Encoder()


ARRIVAL = msgspec.msgpack.Decoder(Arrival)


def primary_name(index: int) -> str:
    """The name of the actor that has a log in force: a partition's, or the ledger's."""
    return actor_of(sequencer_of(index))


def standby_name(index: int) -> str:
    """The name of the actor that has its copy."""
    return f"standby-{LEDGER_ACTOR if index == LEDGER else index}"


class StandbyLine:
    """See the module."""

    def __init__(self, namespace: str, index: int, timeout_s: float) -> None:
        self._namespace = namespace
        self._name = standby_name(index)
        self._timeout_s = timeout_s
        self._handle: Any = None

    def send(self, shipment: Shipment) -> Arrival:
        """The answer to a message. Raises StoreUnavailable."""
        try:
            if self._handle is None:
                self._handle = ray.get_actor(self._name, namespace=self._namespace)
            answer = self._handle.take.remote(ENCODER.encode(shipment))
            return ARRIVAL.decode(ray.get(answer, timeout=self._timeout_s))
        except (ValueError, ray.exceptions.RayError) as error:
            raise self._unanswered(error) from None

    def entry(self, position: int) -> bytes:
        """A log entry as the standby has it. Raises StoreUnavailable."""
        try:
            handle: Any = ray.get_actor(self._name, namespace=self._namespace)
            found: bytes = ray.get(handle.entry.remote(position), timeout=FETCH_S)
        except (ValueError, ray.exceptions.RayError) as error:
            raise self._unanswered(error) from None
        return found

    def ask_promotion(self) -> None:
        """Have the standby put itself in force, if it may be: the files of its partition are gone.
        Does not wait."""
        with suppress(ValueError, ray.exceptions.RayError):
            handle: Any = ray.get_actor(self._name, namespace=self._namespace)
            handle.promote.remote(is_wanted=False)

    def _unanswered(self, error: Exception) -> StoreUnavailable:
        self._handle = None
        return StoreUnavailable(
            f"expected an answer of {self._name} within {self._timeout_s:g} s, got"
            f" {type(error).__name__}"
        )
