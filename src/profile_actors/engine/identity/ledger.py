"""The ledger: the one sequencer of links. It tells partitions who belongs together.

Theory: a log of its own, a ``Mailbox``, and ``People``. An entry takes messages of partitions,
folds their evidence, and records what it tells: to the owner of an identity and to the home of its
book where it belongs, to the source of evidence that it is settled. A crash between any two steps
loses nothing that was acknowledged: opening replays the log, taking what was told from it.

Definitions come with ``commit``; an entry keeps of them what links are judged by, if that changed.
Without the ledger nothing else stops: links that come meanwhile wait in the outboxes of partitions.

Rules for editors: no Ray, no clock here. One thread commits; ``outgoing`` and questions come from
any. After an error of ``commit`` the ledger is ahead of its log: open it again.

Cost: opening folds what came since the newest checkpoint, some 80 us a link, and makes what is in
that, some 10 us a link. Memory: some 1 kB a linked identity.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from profile_actors.columnar.state_columns import UNSET
from profile_actors.columnar.vectors import Array
from profile_actors.definitions import catalogue_changes
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.linking import Fact, Judged, components
from profile_actors.engine.identity.mailbox import Mailbox
from profile_actors.engine.identity.messages import (
    LEDGER,
    Message,
    Named,
    Op,
    decode_ops,
    decode_ops_of,
    encode_ops,
)
from profile_actors.engine.identity.people import People, PlainPeople, Trial
from profile_actors.engine.log.entry import Mail, encode, read_mail
from profile_actors.engine.log.ports import Checkpoints, Log
from profile_actors.errors import UNDECODED, CorruptLog, Halt
from profile_actors.ingest.identity_keys import BUCKET_SHIFT

MAX_BYTES = 1 << 23
"""Messages that ``outgoing`` gives at once end after so many bytes of operations."""


FORMAT = 1
"""Of checkpoints; another one is passed over."""


LEAST_ENTRIES = 1_024
"""A checkpoint is due after so many entries, more where there are a million links and more."""


_PLAIN = msgspec.msgpack.Decoder(tuple[int, int, int, bytes, list[Any], PlainPeople])


class LedgerStatus(msgspec.Struct, frozen=True):
    """The ledger's own account of itself.

    links: pairs of identities that there is evidence of. people: of two identities or more.
    skipped: links by the rule that forbids them. unpublished: books that are not shown yet to all
    their identities. pending: messages of partitions whose evidence is not shown yet. tried: of
    a dry run that goes on, facts judged and all; None without.
    """

    position: int
    now: int | None
    catalogue: int
    links: int
    identities: int
    people: int
    skipped: dict[str, int]
    unpublished: int
    pending: int
    log_bytes: int
    tried: tuple[int, int] | None = None


class Ledger:
    """See the module. assignment: int[4096], the partition of each bucket; epoch: the owner's.

    The log is the ledger's from here on: ``close`` closes it. Raises CorruptLog.
    """

    def __init__(
        self,
        log: Log,
        assignment: Array,
        *,
        epoch: int = 0,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """checkpoints: where ``checkpoint`` saves; None: all of the log is folded."""
        self.log = log
        self.lock = threading.RLock()
        self.mailbox = Mailbox()
        self.people = People()
        self.position = 0
        self.version = 0
        self.catalogue = Catalogue()  # the newest given; the log keeps only what judges links
        self._now = UNSET
        self._epoch = epoch
        self._assignment = np.asarray(assignment)
        self._owners = [str(owner) for owner in self._assignment.tolist()]
        self._failed = False
        self._trials: list[Trial] = []
        self._checkpoints = checkpoints
        self._saved = self._tried = 0
        self._restore()
        self._replay()

    @property
    def now(self) -> int | None:
        """The newest clock there was word of, ms; None before the first."""
        return None if self._now == UNSET else self._now

    def owner(self, named: Named) -> str:
        """The partition that owns an identity."""
        return self._owners[named.k0 >> BUCKET_SHIFT]

    def commit(
        self, mail: Sequence[Message], now: int | None = None, catalogue: Catalogue | None = None
    ) -> None:
        """Take messages, and definitions if they are newer, in one entry; none if there is nothing
        to take or to tell.

        now: ms, None on the event clock, where it is that of whoever sent. Of each source the next
        messages are taken; repeats, what came too early, and what was sent under newer definitions
        than these are passed over, as ``mailbox.cursor`` then says.

        Raises StorageFull, FencedOut, Halt; then the ledger must be opened again.
        """
        if self._failed:
            raise Halt(
                "expected a ledger that is in step with its log, got one that failed to write - at"
                f" position {self.position}; open it again"
            )
        with self.lock:
            self._failed = True
            self._commit(mail, now, catalogue)
            self._failed = False

    def _commit(
        self, mail: Sequence[Message], now: int | None, catalogue: Catalogue | None
    ) -> None:
        definition = b""
        if catalogue is not None and catalogue.version > self.version:
            self.version, self.catalogue = catalogue.version, catalogue
            judged_by = _judged_by(catalogue)
            if judged_by != _judged_by(self.people.catalogue):
                definition = judged_by
                self.people.define(catalogue)
        taken = self._next_of(mail)
        clocks = [UNSET if now is None else now, *(message.now for message in taken)]
        now = max(self._now, *clocks)
        people = self.people
        people.fold(people.receive((m.source, m.number, m.ops) for m in taken))
        told = self._by_peer(*people.decide(self.position))
        if not (definition or taken or told):
            return
        box = self.mailbox
        sent = tuple((to, box.newest(to) + 1) for to in told)
        entry = encode(
            "ledger", self._epoch, now, self.version, definition=definition,
            mail=Mail(
                tuple((m.source, m.number, m.now) for m in taken),
                sent,
                encode_ops([(m.source, m.ops) for m in taken]) if taken else b"",
                encode_ops([(to, tuple(ops)) for to, ops in told.items()]) if told else b"",
            ),
        )  # fmt: skip
        self.log.append_at(self.position, entry, self._epoch)
        # Only now: what is said to be taken, or to be there to be sent, must be durable.
        for message in taken:
            box.take(message.source, message.number)
        for to in told:
            box.sent(to, self.position)
        self._now = now
        self.position += 1

    def _next_of(self, mail: Sequence[Message]) -> list[Message]:
        """Those messages that are next of their source, one after the other."""
        taken: list[Message] = []
        reached: dict[str, int] = {}
        for message in mail:
            before = reached.get(message.source, self.mailbox.cursor(message.source))
            if message.number == before + 1 and message.catalogue <= self.version:
                reached[message.source] = message.number
                taken.append(message)
        return taken

    def _by_peer(self, homes: list[Op], settled: list[tuple[str, Op]]) -> dict[str, list[Op]]:
        """What to tell whom, in a fixed order. The owner of an identity and the home of its book
        are told of it both; once where they are one."""
        told: defaultdict[str, list[Op]] = defaultdict(list)
        for op in homes:
            assert op.one is not None, op
            assert op.other is not None, op
            for to in sorted({self.owner(op.one), self.owner(op.other)}):
                told[to].append(op)
        for to, op in settled:
            told[to].append(op)
        return dict(sorted(told.items()))

    # -- what goes out ----------------------------------------------------------------------------

    def outgoing(self, to: str, after: int, limit: int) -> list[Message]:
        """Up to ``limit`` messages to a destination, from number ``after`` + 1 on, at least one if
        there is one; they end where they get large. Any thread.

        Raises KeyError for numbers that were acknowledged.
        """
        messages: list[Message] = []
        size = 0
        newest = self.mailbox.heads().get(to, 0)
        for number in range(after + 1, min(newest, after + limit) + 1):
            position = self.mailbox.position_of(to, number)
            where = f"position {position} of the ledger"
            with self.log.view(position) as view:
                envelope, mail = read_mail(view, where)
            ops = decode_ops_of(to, mail.sent_ops, where)
            # Who belongs where is understood under any definitions.
            messages.append(Message(LEDGER, number, envelope.now, 0, ops))
            size += len(mail.sent_ops)
            if size > MAX_BYTES:
                break
        return messages

    # -- questions --------------------------------------------------------------------------------

    def identity_graph(self, named: Named) -> tuple[list[Named], list[tuple[Named, Named, Judged]]]:
        """The identities of a person, the canonical one first, and every link at one of them,
        newest first, with its two ends and what became of it. Any thread."""
        with self.lock:
            members, links = self.people.person(named)
            name = self.people.named
            return members, [(name(link.pair[0]), name(link.pair[1]), link) for link in links]

    @contextmanager
    def trying(self, catalogue: Catalogue) -> Iterator[Trial]:
        """Judge all evidence there is now by other definitions; commits wait for the copy of it
        alone. Any thread."""
        with self.lock:
            trial = Trial(self.people, catalogue)
            self._trials.append(trial)
        try:
            yield trial
        finally:
            with self.lock:
                self._trials.remove(trial)

    def status(self) -> LedgerStatus:
        """Any thread."""
        with self.lock:
            people, graph = self.people, self.people.graph
            books = {id(people.book_of[one]) for one in people.unpublished}
            tried = next(((one.done, one.of) for one in self._trials), None)
            return LedgerStatus(
                self.position, self.now, self.version, graph.links, people.identities,
                graph.people, dict(graph.skipped()), len(books), len(people.told),
                self.log.size_bytes(), tried,
            )  # fmt: skip

    def verify(self) -> list[str]:
        """Re-read the log, fold it anew, and ask the definition who is one person; the differences,
        [] when none. Commits wait meanwhile. Cost: some 100 us a link, and as much memory again."""
        with self.lock:
            found = list(self.log.verify())
            if found:
                return found
            people, again = self.people, Ledger(self.log, self._assignment).people
            graph = people.graph
            for member, together in components(graph.facts(), graph.limits).items():
                one = people.named(member)
                if graph.of(member) != together:
                    found.append(
                        f"{one}: expected {len(together)} identities of her person, got"
                        f" {graph.size_of(member)}"
                    )
            for one in people.book_of.keys() | again.book_of.keys():
                books = [side.book_of.get(one) for side in (again, people)]
                wanted, got = (None if b is None else (b.low, b.number) for b in books)
                if wanted != got:
                    found.append(f"{one}: expected book {wanted}, got {got}")
        return found

    def close(self) -> None:
        self.log.close()

    # -- checkpoints ------------------------------------------------------------------------------

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether so much came since the last one was made, or failed, that it pays."""
        entries = self.position - self._tried
        links = self.people.graph.links
        return entries >= LEAST_ENTRIES and entries * LEAST_ENTRIES >= links

    def checkpoint(self) -> None:
        """Save the state, so that the next opening folds only what comes after. Commits wait for a
        copy of it, some 1 us a link. One thread at a time. Raises StorageFull, CorruptLog."""
        if self._checkpoints is None or self.position == self._saved:
            return
        with self.lock:
            if self._failed:  # it knows what its log may not have
                return
            position, judged_by = self.position, _judged_by(self.people.catalogue)
            state = [FORMAT, self.version, self._now, judged_by, self.mailbox.to_plain()]
            image = self.people.image()
        self._tried = position
        plain = [*state, People.to_plain(image)]
        self._checkpoints.save(position, msgspec.msgpack.encode(plain), {})
        self._saved = position

    def _restore(self) -> None:
        """The newest checkpoint. One beyond the log is refused: once the log is as long again, it
        would be taken for a state of other entries."""
        found = None if self._checkpoints is None else self._checkpoints.load()
        if found is None:
            return
        if found[0] > self.log.head():
            raise CorruptLog(
                f"expected a log of at least {found[0]} entries, which a checkpoint covers, got"
                f" {self.log.head()}: the ledger's log has lost its newest entries; restore it from"
                " a backup (to go on without them, delete the ledger's checkpoints/)"
            )
        try:
            kind, version, now, judged_by, mailbox, people = _PLAIN.decode(found[1])
        except UNDECODED:
            return
        if kind != FORMAT:
            return
        self.version, self._now = version, now
        self.mailbox = Mailbox.of_plain(mailbox)
        self.people = People.of_plain(catalogue_changes.decode(judged_by), people)
        self.position = self._saved = self._tried = found[0]

    # -- opening ----------------------------------------------------------------------------------

    def _replay(self) -> None:
        facts: list[Fact] = []
        for position in range(self.position, self.log.head()):
            where = f"position {position} of the ledger"
            with self.log.view(position) as view:
                envelope, mail = read_mail(view, where)
            if envelope.definition:
                self.people.fold(facts)
                facts = []
                self.people.define(catalogue_changes.decode(envelope.definition))
            self.version, self._now = envelope.catalogue, envelope.now
            received = decode_ops(mail.received_ops, where) if mail.received_ops else ()
            for source, number, _ in mail.received:
                assert self.mailbox.take(source, number) == "next", (where, source, number)
            numbers = (number for _, number, _ in mail.received)
            facts += self.people.receive(
                (source, number, ops)
                for number, (source, ops) in zip(numbers, received, strict=True)
            )
            for to, ops in decode_ops(mail.sent_ops, where) if mail.sent_ops else ():
                self.mailbox.sent(to, position)
                self.people.carry_out(to, ops)
            self.position = position + 1
        self.people.complete_replay(facts)


def _judged_by(catalogue: Catalogue) -> bytes:
    """What of the definitions links are judged by, as an entry keeps it."""
    return catalogue_changes.encode(
        Catalogue(
            namespaces=dict(sorted(catalogue.namespaces.items())),
            linking_rules=catalogue.linking_rules,
        )
    )
