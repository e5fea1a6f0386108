"""Every error that profile-actors raises on purpose, drawn as a tree.

    ProfileActorsError
    ├── CallerError            the caller's fault, raised at the door, nothing was changed
    │   ├── RuleError          a rule does not parse, type-check or evaluate (line, column, marked
    source) │   ├── SchemaError        a field, type or constraint is wrong, or a schema change is
    incompatible │   ├── DefinitionError    an unknown or conflicting name in a definition
    │   ├── ConfigError        a start option or limit is wrong
    │   ├── ClockError         a clock was asked to go back, or jumped too far ahead
    │   └── OffsetGap          a producer skipped rows (carries what was expected)
    ├── Weather                worth a retry by the caller
    │   ├── StoreUnavailable   a partition or edge did not answer in time
    │   ├── Backpressure       a bounded queue is full and the caller asked not to wait
    │   ├── CursorExpired      the change feed no longer holds what the cursor asks for
    │   └── Pending            a rule has back-fill outstanding
    └── Halt                   ours or the disk's: the partition stops writing, its log stays
        ├── LostLog            a log that was there is not, or another one is in its place
        ├── CorruptLog         a stored byte is not what was written; names file, position
        │   └── FeedDamaged        in the change feed, which is made anew from the log
        ├── StorageFull        the disk or the reserved map is full
        └── FencedOut          another incarnation owns this partition

Theory: a message says expected, got, where, what to do. What is normal (a late, duplicate or
rejected row) is no error but a returned value.

Rules for editors: every argument goes to ``super().__init__`` so that the class survives pickling
between processes; a test pickles each of them.
"""

from __future__ import annotations

import msgspec

UNDECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that nobody has encoded: of another shape, with texts that are no
UTF-8, or nested without end."""


class ProfileActorsError(Exception):
    """Root of all errors raised on purpose."""


class CallerError(ProfileActorsError):
    """The caller's fault; nothing was changed."""


class RuleError(CallerError):
    """A rule that does not parse, type-check or evaluate.

    message: the whole text, with the marked source. line, column: 1-based, 0 when unknown.
    """

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message, line, column)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return self.message


class SchemaError(CallerError):
    """A field, type or constraint is wrong, or a schema change is incompatible."""


class DefinitionError(CallerError):
    """An unknown, conflicting or cyclic name in a definition."""


class ConfigError(CallerError):
    """A start option or limit is wrong for this store."""


class ClockError(CallerError):
    """A clock was asked to go back, or jumped further ahead than a clock does."""


class OffsetGap(CallerError):
    """A producer's batch starts beyond the rows that the store has.

    expected: the offset the next batch of this producer must start at or before.
    """

    def __init__(self, message: str, expected: int = 0) -> None:
        super().__init__(message, expected)
        self.message = message
        self.expected = expected

    def __str__(self) -> str:
        return self.message


class Weather(ProfileActorsError):
    """Not the caller's fault and likely to pass; worth a retry."""


class StoreUnavailable(Weather):
    """A partition, edge or coordinator did not answer in time."""


class Backpressure(Weather):
    """A bounded queue is full and the caller asked not to wait."""


class CursorExpired(Weather):
    """The change feed no longer holds what the cursor asks for."""


class Pending(Weather):
    """A rule has back-fill or rescans outstanding."""


class Halt(ProfileActorsError):
    """Ours or the disk's fault: the partition stops writing, its log stays."""


class LostLog(Halt):
    """A log or catalogue that was there is not, is shorter, or another is in its place.

    The message names the log and where it was last seen. Nothing is begun in its place.
    """


class CorruptLog(Halt):
    """A stored byte is not what was written. The message names file and position."""


class FeedDamaged(CorruptLog):
    """Damage in the change feed, which is derived: nothing is lost, it is made anew."""


class StorageFull(Halt):
    """The disk, the reserved map or a reserved number of profiles is full."""


class FencedOut(Halt):
    """Another incarnation owns this partition's directory or epoch.

    epoch: the one that the log has recorded, 0 where it was not asked.
    """

    def __init__(self, message: str, epoch: int = 0) -> None:
        super().__init__(message, epoch)
        self.message = message
        self.epoch = epoch

    def __str__(self) -> str:
        return self.message
