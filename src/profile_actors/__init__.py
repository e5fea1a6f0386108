"""profile-actors: a self-hosted real-time customer profile engine on Ray.

The public names, in reading order: declare, start, write, read, and what can go wrong.
"""

from __future__ import annotations

from profile_actors.actors.reading import Changes, Members
from profile_actors.actors.results import IngestReport, PendingReceipt, Receipt, StoreStatus
from profile_actors.client import Store, start
from profile_actors.config import Config
from profile_actors.definitions import (
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    Field,
    Namespace,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.profile import (
    Change,
    EventPage,
    Identity,
    Membership,
    PartitionStatus,
    Preview,
    Profile,
)
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
from profile_actors.rules.convert import format_rule, rule_from_json, rule_to_json
from profile_actors.rules.evaluate import evaluate

__all__ = [
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
    "RuleError",
    "Schema",
    "SchemaError",
    "SegmentDefinition",
    "StorageFull",
    "Store",
    "StoreStatus",
    "StoreUnavailable",
    "Weather",
    "evaluate",
    "format_rule",
    "rule_from_json",
    "rule_to_json",
    "start",
]
