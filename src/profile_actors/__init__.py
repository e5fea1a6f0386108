"""profile-actors: a self-hosted real-time customer profile engine on Ray.

The public names, in reading order: declare, start, write, read, and what can go wrong. What needs
Ray or Arrow is imported when it is first used, so that ``profile-actors --help`` is at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from profile_actors.config import Config
from profile_actors.errors import (
    Backpressure,
    CallerError,
    ClockError,
    ConfigError,
    CorruptLog,
    CursorExpired,
    DefinitionError,
    FeedDamaged,
    FencedOut,
    Halt,
    LostLog,
    OffsetGap,
    Pending,
    ProfileActorsError,
    RuleError,
    SchemaError,
    StorageFull,
    StoreUnavailable,
    Weather,
)

if TYPE_CHECKING:
    from profile_actors.client import Store, connect, start
    from profile_actors.definitions.declared import (
        Catalogue,
        ComputedAttribute,
        Dataset,
        Definition,
        Field,
        Namespace,
        Schema,
        SegmentDefinition,
    )
    from profile_actors.driver.iterators import Changes, Members
    from profile_actors.driver.receipts import IngestReport, PendingReceipt, Receipt, StoreStatus
    from profile_actors.driver.streams.async_stream import AsyncRowStream
    from profile_actors.driver.streams.row_stream import RowStream
    from profile_actors.engine.identity.identity import Identity
    from profile_actors.engine.reading.answers import (
        Change,
        EventPage,
        Membership,
        PartitionStatus,
        Preview,
        Profile,
    )
    from profile_actors.rules.catalogue.on_documents import evaluate
    from profile_actors.rules.json_form.json_writer import format_rule, rule_from_json, rule_to_json

__all__ = [
    "AsyncRowStream",
    "Backpressure",
    "CallerError",
    "Catalogue",
    "Change",
    "Changes",
    "ClockError",
    "ComputedAttribute",
    "Config",
    "ConfigError",
    "CorruptLog",
    "CursorExpired",
    "Dataset",
    "Definition",
    "DefinitionError",
    "EventPage",
    "FeedDamaged",
    "FencedOut",
    "Field",
    "Halt",
    "Identity",
    "IngestReport",
    "LostLog",
    "Members",
    "Membership",
    "Namespace",
    "OffsetGap",
    "PartitionStatus",
    "Pending",
    "PendingReceipt",
    "Preview",
    "Profile",
    "ProfileActorsError",
    "Receipt",
    "RowStream",
    "RuleError",
    "Schema",
    "SchemaError",
    "SegmentDefinition",
    "StorageFull",
    "Store",
    "StoreStatus",
    "StoreUnavailable",
    "Weather",
    "connect",
    "evaluate",
    "format_rule",
    "rule_from_json",
    "rule_to_json",
    "start",
]

_PLACES = {
    "AsyncRowStream": "driver.streams.async_stream",
    "Catalogue": "definitions.declared",
    "Change": "engine.reading.answers",
    "Changes": "driver.iterators",
    "ComputedAttribute": "definitions.declared",
    "Dataset": "definitions.declared",
    "Definition": "definitions.declared",
    "EventPage": "engine.reading.answers",
    "Field": "definitions.declared",
    "Identity": "engine.identity.identity",
    "IngestReport": "driver.receipts",
    "Members": "driver.iterators",
    "Membership": "engine.reading.answers",
    "Namespace": "definitions.declared",
    "PartitionStatus": "engine.reading.answers",
    "PendingReceipt": "driver.receipts",
    "Preview": "engine.reading.answers",
    "Profile": "engine.reading.answers",
    "Receipt": "driver.receipts",
    "RowStream": "driver.streams.row_stream",
    "Schema": "definitions.declared",
    "SegmentDefinition": "definitions.declared",
    "Store": "client",
    "StoreStatus": "driver.receipts",
    "connect": "client",
    "evaluate": "rules.catalogue.on_documents",
    "format_rule": "rules.json_form.json_writer",
    "rule_from_json": "rules.json_form.json_writer",
    "rule_to_json": "rules.json_form.json_writer",
    "start": "client",
}


def __getattr__(name: str) -> Any:
    """A public name that nobody has used yet."""
    if name not in _PLACES:
        raise AttributeError(f"module 'profile_actors' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"profile_actors.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
