"""The door for Python programs: ``start`` a store or ``connect`` to it, write, read.

Theory: a ``Store`` is a driver's connection to the actors of one data directory. It validates and
routes rows in the driver's own process (so parsing scales with drivers), and keeps no state that
could not be thrown away: what was acknowledged is in the partitions' logs.

A dead partition restarts by itself; calls wait and retry for ``Config.call_timeout_s``, then raise
StoreUnavailable. Whatever was resent meanwhile counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from profile_actors.actors.calls import closed_store
from profile_actors.actors.hooks import Hook, no_hook
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Definition, named
from profile_actors.driver.arguments import (
    Instant,
    check_page_cursor,
    identity_pairs,
    instant_ms,
    text_name,
    whole_number,
)
from profile_actors.driver.connection import Connection, Selectors
from profile_actors.driver.definition_edits import delete, in_force, newest, preview, tell
from profile_actors.driver.files.access_doors import AccessDoors
from profile_actors.driver.iterators import Changes, Members, Scan, scanned
from profile_actors.driver.keeping.attach import running
from profile_actors.driver.keeping.edge_processes import settle
from profile_actors.driver.keeping.head import without_addons
from profile_actors.driver.keeping.placement import Placement, attached
from profile_actors.driver.receipts import Explanation
from profile_actors.driver.replicas.replica_doors import ReplicaDoors
from profile_actors.driver.sender import Sender
from profile_actors.driver.shipping.backup_doors import BackupDoors
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import EventPage, Preview, Profile
from profile_actors.errors import CallerError, ClockError, DefinitionError, StoreUnavailable
from profile_actors.ingest.definition_files import definitions_of

if TYPE_CHECKING:
    from profile_actors.driver.trials.dry_runs import DryRun


def start(
    path: str | Path,
    partitions: int | None = None,
    clock: Literal["wall", "event"] | None = None,
    config: Config | None = None,
    *,
    hook: Hook = no_hook,
) -> Store:
    """Open a store (or make one) in a directory.

    Its actors live on the Ray that the program has initialised; else on the cluster of RAY_ADDRESS;
    else on a Ray of the store's own, beside any other on the machine. Leaving the ``with`` block
    flushes and stops the store, and the Ray that was started for it. A store on a cluster stays up,
    as does one that somebody else started; a Ray that the program initialised is left alone.

    partitions, clock: of a new store (default: one per core, 'wall'); an existing one keeps its
    own, and asking for another is a ConfigError. hook: for crash tests; called at named points in
    the coordinator and the partitions. Cost: 3-4 s to start a local Ray, plus the replay of what no
    checkpoint covers.

    Raises FencedOut within 2 s if another process runs the store (it says which, since when; to use
    it there is ``connect``), ConfigError if this one has it open, StoreUnavailable if RAY_ADDRESS
    does not answer within ``Config.call_timeout_s``, or a Ray of its own does not start (Ray takes
    half a minute to say so). A start that fails leaves nothing running.
    """
    from profile_actors.driver.starting.starting import opened

    return _store(opened(Path(path).resolve(), partitions, clock, config, hook))


def for_a_call(path: str | Path, partitions: int | None = None, clock: str | None = None) -> Store:
    """Attach to a running store, else start it, so that nobody attaches: it ends in a moment."""
    without_addons()
    data = Path(path).resolve()
    if running(data) is not None:
        return _store(attached(data, None, partitions, clock))
    from profile_actors.driver.starting.starting import opened

    return _store(opened(data, partitions, clock, None, publishing=False))


def connect(path: str | Path, config: Config | None = None) -> Store:
    """Attach to the running store of a directory, from any process of its machine.

    It runs because of ``profile-actors start`` or another program's ``start``; on a cluster, where
    RAY_ADDRESS names it or the program has joined it. Closing what this returns stops nothing.
    If the store is stopped and started again meanwhile, calls wait for it, as they wait for a dead
    partition, and go on. config: that of the running store holds for all; another is a ConfigError.
    Cost: some 0.3 s, or 1 s with the import of Ray.

    Raises StoreUnavailable if nobody runs the store, ConfigError if there is none, if its token
    cannot be read, or if this process has another Ray (a process has one).
    """
    return _store(attached(Path(path).resolve(), config))


def _store(placement: Placement) -> Store:
    try:
        return Store(placement)
    except BaseException:
        placement.abandon()
        raise


class Store(ReplicaDoors, AccessDoors, BackupDoors):
    """A running store; made by ``start`` and ``connect``."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._closed = False
        self._is_ended = False
        self._closing = RLock()
        self._connection = Connection(
            str(placement.path), placement.settings.clock, placement.config,
            placement.settings.hash_seed, placement.assignment, placement.coordinator,
            placement.partitions, placement.settings.restored,
        )  # fmt: skip
        self._connection.catalogue = in_force(self._connection)
        settle(placement)
        self._sender = Sender(self._connection)
        self._begin_writing()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is on its way, then flush and stop a local store that was started here; one
        that was found running goes on. Idempotent.

        From any thread, at any time: submissions that were begun end with their receipts, or with
        StoreUnavailable after ``Config.call_timeout_s``; other calls, iterators and an ``ingest``
        that are under way end with StoreUnavailable, as does every use from now on.
        """
        if not self._placement.is_here:
            return
        with self._closing:  # whoever comes second returns when it is done
            if self._is_ended:
                return
            self._finish_streams()
            self._closed = True
            try:
                self._submissions.close(self._connection.config.call_timeout_s)
                self._sender.close()
            finally:
                try:
                    self._placement.session.close()
                    self._connection.close()
                    self._sender.end()
                finally:
                    self._is_ended = True
                    self._placement.stop()

    @property
    def path(self) -> Path:
        return self._placement.path

    @property
    def clock(self) -> str:
        """'wall' or 'event', as the store was made."""
        return self._connection.clock

    # Definitions

    def apply(self, *definitions: Definition) -> int:
        """Add or change definitions, all or nothing; returns the catalogue's version.

        Idempotent; what is not named stays. Returns when every partition has taken them and new
        rules answer from the whole history. Raises RuleError, SchemaError, DefinitionError.
        """
        self._check_open()
        tell(self._connection, self._connection.coordinator.call("apply", list(definitions)))
        settle(self._placement)
        return self._connection.catalogue.version

    def apply_file(self, path: str | Path) -> int:
        """Apply the definitions of a YAML or JSON file."""
        self._check_open()
        return self.apply(*definitions_of(path))

    def delete(self, name: str, kind: str | None = None) -> int:
        """Delete a definition, everywhere or nowhere; returns the catalogue's version.

        kind: 'segment', 'computed attribute', 'dataset', 'schema', 'namespace', 'edge destination'
        or 'projection', where several have the name. A segment's members leave it (cause
        'definition'). Raises DefinitionError for an unknown name, while another definition reads or
        names it (it says which), and for a dataset or namespace of which anything came.
        """
        self._check_open()
        delete(self._connection, name, kind)
        settle(self._placement)
        return self._connection.catalogue.version

    def definitions(self) -> Catalogue:
        """All definitions in force: the newest that every partition has taken.

        While partitions back-fill for newer ones, the older ones are in force.
        """
        self._check_open()
        return newest(self._connection)

    # Writing

    def cursor(self, producer: str) -> int:
        """The offset of the next row that the store needs of a producer; 0 if it is unknown."""
        self._check_open()
        return self._sender.cursor(text_name(producer, "producer", "cursor"))

    # Reading

    def profile(
        self,
        namespace: str,
        value: str,
        fields: Selectors = None,
        *,
        merge_policy: str | None = None,
        sources: bool = False,
        as_of: Instant | None = None,
    ) -> Profile | None:
        """The profile that has an identity, as of now; None if nobody has. See ``profiles``.

        as_of: as this store would have answered at an earlier instant, by what it knew and what was
        defined then (docs/IDENTITY.md, "What was known then"). Cost: her rows, and some 1 ms a
        rule. Raises CallerError for an instant of the future.
        """
        identity = (namespace, value)
        if as_of is not None:
            return self._profile_then(identity, fields, as_of, merge_policy, sources)
        return self.profiles([identity], fields, merge_policy=merge_policy, sources=sources)[0]

    def profiles(
        self,
        identities: Iterable[tuple[str, str] | Identity],
        fields: Selectors = None,
        *,
        merge_policy: str | None = None,
        sources: bool = False,
    ) -> list[Profile | None]:
        """Many profiles at once, in the order asked, None for unknown ones.

        identities: pairs of namespace and value, or what ``members`` yields. fields: what is worked
        out and sent (default: all), such as "identities", "segments.vip", "computed(visits,spent)".
        merge_policy: show attributes by that policy, and of memberships and computed attributes
        those of rules under it; None: attributes by the default one, and all rules. sources: say of
        each attribute which dataset and identity it is from, and of when (``.sources``).
        """
        self._check_open()
        asked = self._connection.asked_under(fields, self.definitions, merge_policy, sources)
        return self._connection.profiles(identity_pairs(identities), asked)

    def lookup(self, schema: str, namespace: str, value: str) -> dict[str, Any] | None:
        """What the datasets of a lookup schema say of an entity (a product, a shop), as one
        document: of each field the newest row's. None for one that nothing was said of.

        Raises DefinitionError for what is no lookup schema, or no namespace.
        """
        self._check_open()
        known = named(self._connection.catalogue.schemas, schema)
        if known is None:  # another driver may have applied it since
            known = named(newest(self._connection).schemas, schema)
        if known is None or known.behavior != "lookup":
            raise DefinitionError(
                f"expected the name of a lookup schema, got {schema!r} - at lookup; people are"
                " read by store.profile"
            )
        partition, key = self._connection.owner(namespace, value)
        found: dict[str, Any] | None = self._connection.read(partition, "entity", schema, key)
        return found

    def events(
        self,
        namespace: str,
        value: str,
        start: Instant | None = None,
        end: Instant | None = None,
        order: Literal["asc", "desc"] = "asc",
        limit: int = 100,
        cursor: str | None = None,
    ) -> EventPage:
        """A page of a profile's events with start <= timestamp < end.

        ``page.next`` is the cursor of the following page, None on the last.
        """
        self._check_open()
        if order not in ("asc", "desc"):
            raise CallerError(f"expected order 'asc' or 'desc', got {order!r} - at events")
        limit = whole_number(limit, "limit", "events", 1)
        if cursor is not None:
            check_page_cursor(cursor)
        first = None if start is None else instant_ms(start)
        last = None if end is None else instant_ms(end)
        named = identity_pairs([(namespace, value)])[0]
        return self._connection.events(*named, first, last, order, limit, cursor)

    def members(self, segment: str) -> Members:
        """The profiles in a segment: iterate for identities, ``.count()`` for their number."""
        self._check_open()
        self._connection.check_segment(segment, self.definitions, "members")
        return Members(self._connection, segment)

    def scan(
        self, fields: Selectors = None, segment: str | None = None, batch_rows: int = 1_000
    ) -> Scan:
        """All profiles, or a segment's, as Arrow batches (``driver.iterators.scanned``)."""
        self._check_open()
        return scanned(self._connection, self.definitions, fields, segment, batch_rows)

    def changes(
        self, after: str | None = None, follow: bool = False, consumer: str | None = None
    ) -> Changes:
        """Membership and computed-attribute changes, oldest first, from a cursor on.

        ``.cursor`` is where it stands; ``.batches()`` gives Arrow record batches instead. Ends at
        the present unless follow. consumer: a name under which ``status().consumers`` says how far
        behind this reader is. Raises CursorExpired if what follows the cursor was dropped.
        """
        self._check_open()
        name = "" if consumer is None else text_name(consumer, "consumer", "changes")
        return Changes(self._connection, after, follow, name)

    def explain(self, rule: str) -> Explanation:
        """The plan of a rule: what runs incrementally, what does not, and why.

        ``print`` it, or read its ``report``. Raises RuleError.
        """
        self._check_open()
        from profile_actors.rules.explain.report import explain

        return Explanation(explain(rule, self._connection.catalogue))

    def preview(self, rule: str, sample: int = 10) -> Preview:
        """The profiles that a rule would hold for: their exact count and a sample, from the log.

        Nothing is saved, and rows go on coming meanwhile. Of a rule that is not boolean: who has a
        value, and the sample's values. Cost: as much as one new rule's back-fill. Raises RuleError.
        """
        self._check_open()
        return preview(self._connection, rule, whole_number(sample, "sample", "preview", 0))

    def dry_run(self, definition: Definition) -> DryRun:
        """What a changed rule, merge policy, relationship or linking rules would change if they
        were applied: affected definitions, memberships, people who split or join; nothing is saved.

        Of linking rules and namespaces the memberships of up to ``Config.max_dry_run_people`` are
        compared. Cost: twice a preview of each affected rule; of linking rules, all links judged
        anew while the ledger waits, and 1 ms a rule and person. Raises RuleError, DefinitionError.
        """
        self._check_open()
        from profile_actors.driver.trials.dry_runs import dry_run

        return dry_run(self._connection, self._ledger, definition)

    # Time and health

    def advance_to(self, when: Instant) -> None:
        """Move the event clock of every partition; what becomes due by then happens.

        First, what was sent is in the profiles of the people it belongs to. The present instant
        moves nothing. Raises ClockError for an earlier one, or on the wall clock; Pending if
        messages between partitions do not arrive.
        """
        self._check_open()
        if self.clock != "event":
            raise ClockError(
                "expected a store with clock='event', got one on the wall clock - at advance_to;"
                " time passes by itself there"
            )
        instant = instant_ms(when)
        self._sender.flush()
        self._sender.advance(instant, self._rest())

    def _check_open(self) -> None:
        if not self._placement.is_here:
            raise StoreUnavailable(
                f"expected the process that started the store, got a fork of it - at {self.path};"
                " start Python anew (subprocess, or multiprocessing's 'spawn')"
            )
        if self._closed:
            raise closed_store(str(self.path))
