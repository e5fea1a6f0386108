"""One frozen Config: every limit and timeout, its unit in its name.

Rules for editors: nothing else in the package hard-codes a limit on a queue, cache, batch or retry.
"""

from __future__ import annotations

import msgspec

from profile_actors.errors import ConfigError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and timeouts of one store. Passed explicitly; never read from the environment."""

    max_ahead_ms: int = 300_000
    """A row whose timestamp is further ahead of the wall clock is rejected."""
    max_clock_jump_ms: int = 86_400_000
    """A wall clock that jumps further ahead between two ticks halts time with a ClockError."""
    max_tick_ms: int = 1_000
    """The writer loop wakes when something is due, and at least this often: a wall clock that is
    set is noticed after so long. Each look costs some 0.3 ms of an idle store."""
    max_due_rows: int = 50_000
    """Due contributions that one step of the clock lets happen (some 60 ms); more take several."""
    max_batch_rows: int = 250_000
    """Rows of one sub-batch; larger submissions are cut at the door."""
    max_entry_rows: int = 500_000
    """Rows of one log entry (group commit stops draining here)."""
    max_entry_batches: int = 256
    """Sub-batches of one log entry on the wall clock."""
    max_event_entry_batches: int = 1
    """Sub-batches of one log entry on the event clock. One: a replay tells the same feed whatever
    the timing was. More is faster for small ones, and where entries end, and so which net changes
    are told, is then a matter of timing; memberships and values are the same (decision 0034)."""
    max_entry_bytes: int = 256 << 20
    """Bytes of rows of one log entry, of several sub-batches that is; a single one is taken."""
    max_queue_batches: int = 64
    """Sub-batches waiting in a partition; beyond it the answer is 'retry after'."""
    max_in_flight: int = 8
    """Batches that one client keeps unacknowledged before submit_async blocks. Small submissions of
    dicts on the wall clock, which travel together, are one batch."""
    max_stream_rows: int = 100_000
    """Rows that wait in one stream of a driver (``Store.stream``) before ``send`` blocks; of small
    submissions, before ``submit_async`` does."""
    max_stream_bytes: int = 64 << 20
    """Bytes of them, of dicts estimated from every sixteenth, before it blocks too."""
    max_stream_batch_rows: int = 10_000
    """Rows that travel as one batch of a stream, or of small submissions."""
    ingest_block_bytes: int = 10_000_000
    """Bytes of one block that the file reader parses at a time."""
    max_identity_chars: int = 1_024
    """Characters of one identity value."""
    max_profiles: int = 16_777_216
    """Idents of one partition: so much address space is reserved, memory used as it fills."""
    max_dry_run_people: int = 10_000
    """People whose memberships a dry run of linking rules compares; a millisecond each and rule."""
    max_lookup_rows: int = 16_777_216
    """Rows of lookup datasets (products, shops) of a store, each of which every partition has."""
    max_receipt_rejects: int = 1_000
    """Rejected rows listed in a receipt; all of them are in the quarantine."""
    max_quarantine_rows: int = 1_000_000
    """Rejected rows kept per dataset; the oldest leave first."""
    max_quarantine_bytes: int = 2 << 30
    """Bytes of rejected rows kept per dataset, likewise."""
    max_receipts: int = 64
    """Receipts remembered per producer and partition, to answer a resent batch."""
    max_receipt_producers: int = 4_096
    """Producers whose receipts are remembered; those that were silent longest are forgotten first.
    (Cursors of named ones are kept for ever: without them a row could count twice.)"""
    max_crowded_rows: int = 4_000_000
    """Rows of seconds in which one profile has very many, whose ids a partition keeps in memory."""
    tell_position_ms: int = 60_000
    """How often a partition tells the catalogue how long its log is: what is lost beyond it is
    missed at the next opening."""
    checkpoint_rows: int = 2_000_000
    """Rows folded since the last checkpoint that make the partition write the next one."""
    checkpoint_entries: int = 4_096
    """Log entries since the last checkpoint that do so too: replaying one costs some 5 ms however
    few rows it has, so that opening after a crash stays within half a minute."""
    max_consumers: int = 64
    """Named readers of the change feed that ``status`` knows of, per partition; who has not asked
    for longest is forgotten first."""
    edge_page_profiles: int = 2_000
    """Profiles of one page that an edge is sent: what bounds how long the partition is held."""
    edge_page_bytes: int = 1 << 20
    """Bytes of one, about; a profile that is larger goes alone."""
    edge_map_bytes: int = 64 << 30
    """Address space reserved for one edge's copy of profiles, which may grow so large."""
    max_edges: int = 8
    """Edges that may follow a store: each waits at every partition in a thread of its own."""
    max_open_entries: int = 256
    """Log entries that a partition keeps open for pages of events: some 10 kB each, and the pages
    of the log that they read."""
    max_read_lines: int = 64
    """Direct lines to a partition, of threads on its machine that look profiles up at the same
    time; others ask by Ray, which takes some ms longer."""
    min_free_bytes: int = 256 << 20
    """Bytes free on the disk below which nothing more is written: room for what is under way, and
    for opening the store again. Reads go on, and so does writing when there is room."""
    log_segment_bytes: int = 2 << 30
    """Bytes after which a log segment is sealed and a new one begun."""
    log_map_bytes: int = 16 << 30
    """Address space reserved for one log segment's map."""
    compact_entries: int | None = 20_000
    """Small log entries after which a log segment is sealed early; what is sealed, and covered by a
    checkpoint, is compacted in the background. None: only by ``Store.compact``."""
    feed_retention_days: int | None = None
    """Change feed kept at least this long, in the partition's time, and an eighth longer at most.
    None: 30 on the wall clock; on the event clock, where years go by in a minute, without limit."""
    feed_retention_bytes: int = 8 << 30
    """Change feed kept at most this large."""
    scrub_bytes_per_s: int | None = 4 << 20
    """How fast each partition reads its whole disk again in the background, to compare it with its
    checksums (346 GB a day). None: only by ``Store.scrub``."""
    scrub_pause_s: int = 86_400
    """Between the end of such a pass and the next one."""
    call_timeout_s: float = 60.0
    """How long calls wait and retry over a dead partition before StoreUnavailable."""
    pending_wait_ms: int = 10_000
    """How long members, changes and export wait for back-fill before Pending."""
    forward_ack_ms: int = 1_000
    """Reserved for identity joins (DESIGN section 10)."""
    standby_timeout_ms: int = 1_000
    """How long a standby may be silent before its partition goes on without it, which the
    catalogue notes first."""
    lease_ms: int = 2_000
    """How long a partition with a standby in sync answers reads when neither that nor the
    coordinator was heard: a promotion waits for it."""
    failover_after_ms: int = 10_000
    """A standby in sync that its partition was silent for so long is promoted by itself."""
    replace_standby_after_ms: int | None = 60_000
    """When the disk of a standby was away for so long, another disk of the store takes its place,
    if there is one. None: never."""
    max_rescan_evaluations: int = 64
    """Rescan evaluations between two entries: some tens of ms for profiles of a few events."""
    object_store_mb: int = 400
    """Ray object store of a store started locally."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"expected a positive number, got {value!r} - at Config.{name}")
