"""What a partition has to do with messages: who brings them, and who waits for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from profile_actors.actors.actor_status import LedgerPlace, PartitionPlace
from profile_actors.actors.coordinator import Enlistment
from profile_actors.actors.mail.forwarding import Forwarding
from profile_actors.actors.mail.ledger_actor import begun_ledger
from profile_actors.actors.mail.peers import Peers
from profile_actors.actors.mail.postman import Delivered, Look, Postman
from profile_actors.actors.writer import Writer
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.identity.messages import LEDGER, Named, decode_messages
from profile_actors.engine.partition.partition import Partition
from profile_actors.ingest.identity_keys import BUCKET_SHIFT
from profile_actors.storage.files.layout import StoreLayout


def post_of(index: int, known: Enlistment) -> Post:
    """How a partition is known to others, and who owns which identity."""
    owners = [str(owner) for owner in known.assignment.tolist()]

    def owner_of(one: Named) -> str:
        return owners[one.k0 >> BUCKET_SHIFT]

    return Post(str(index), owner_of, known.seed)


def look(partition: Partition) -> Look:
    """A partition's."""
    mailbox = partition.mailbox
    waits = mailbox.waiting() + partition.state.homes.untold.is_some
    return Look(partition.position, waits, bool(mailbox.heads()), partition.now)


class MailRoom:
    """A partition's postman and who waits for what it brings. The first message to the ledger
    starts it."""

    def __init__(self, place: PartitionPlace, partition: Partition) -> None:
        self._partition = partition
        store = StoreLayout(Path(place.path).parents[1])
        ledger = LedgerPlace(place.namespace, str(store.ledger), place.config, place.home)
        peers = Peers(place.namespace, {LEDGER: partial(begun_ledger, ledger)})
        timeout_s = place.config.call_timeout_s
        self.postman = Postman(str(place.index), partition, peers.call, timeout_s)
        self.forwarding = Forwarding(partition, self.postman, place.config.forward_ack_ms)
        self.postman.acknowledged = self.forwarding.notify

    def deliver(self, writer: Writer, source: str, data: bytes) -> Delivered:
        """Have messages written; answers when what was taken of them is durable and folded."""
        messages = decode_messages(data)
        writer.deliver(messages)
        version = self._partition.catalogue.version
        is_behind = any(message.catalogue > version for message in messages)
        return "behind" if is_behind else "ok", self._partition.mailbox.cursor(source)

    def written(self) -> None:
        """An entry was written."""
        if self.postman.has_work():
            self.postman.notify()
        self.forwarding.notify()
