"""profile-actors: a self-hosted real-time customer profile engine on Ray.

The public names, in reading order: declare, start, write, read, and what can go wrong. What needs
Ray or Arrow is imported when it is first used, so that ``profile-actors --help`` is at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from profile_actors.public_names import __dir__ as __dir__
from profile_actors.public_names import __getattr__ as __getattr__

if TYPE_CHECKING:
    from profile_actors.client import Store, connect, start
    from profile_actors.definitions.declared import (
        Catalogue,
        ComputedAttribute,
        Dataset,
        Definition,
        EdgeDestination,
        Field,
        LinkingRules,
        MergePolicy,
        Namespace,
        ProjectionConfiguration,
        Relationship,
        Schema,
        SegmentDefinition,
    )
    from profile_actors.driver.edges.remote_edge import Edge, OpenEdge, open_edge
    from profile_actors.driver.files.access_request import AccessReport
    from profile_actors.driver.files.exports import ExportReport
    from profile_actors.driver.identity_graphs import IdentityGraph, IdentityLink, Unlinked
    from profile_actors.driver.iterators import Changes, Members
    from profile_actors.driver.people.erasing import Erasure
    from profile_actors.driver.receipts import (
        FileReport,
        IngestReport,
        PendingReceipt,
        Receipt,
        StoreStatus,
    )
    from profile_actors.driver.replicas.recovering import Recovered, recover
    from profile_actors.driver.replicas.replica_doors import Replica
    from profile_actors.driver.shipping.backing_up import Backup
    from profile_actors.driver.shipping.compactions import CompactionReport
    from profile_actors.driver.shipping.restored_stores import Restored, restore
    from profile_actors.driver.shipping.scrubs import ScrubReport
    from profile_actors.driver.simulation import SimulatedLink, Simulation, simulate
    from profile_actors.driver.streams.async_stream import AsyncRowStream
    from profile_actors.driver.streams.row_stream import RowStream
    from profile_actors.driver.trials.dry_runs import DryRun
    from profile_actors.engine.edges.edge_rows import EdgeProfile
    from profile_actors.engine.identity.identity import Identity
    from profile_actors.engine.reading.answers import (
        Change,
        EventPage,
        Membership,
        PartitionStatus,
        Preview,
        Profile,
        Source,
    )
    from profile_actors.rules.catalogue.on_documents import evaluate
    from profile_actors.rules.json_form.json_writer import format_rule, rule_from_json, rule_to_json
    from profile_actors.storage.replicas.lost_end import LostEnd

__all__ = [
    "AccessReport",
    "AsyncRowStream",
    "Backpressure",
    "Backup",
    "CallerError",
    "Catalogue",
    "Change",
    "Changes",
    "ClockError",
    "CompactionReport",
    "ComputedAttribute",
    "Config",
    "ConfigError",
    "CorruptLog",
    "CursorExpired",
    "Dataset",
    "Definition",
    "DefinitionError",
    "DryRun",
    "Edge",
    "EdgeDestination",
    "EdgeProfile",
    "Erasure",
    "EventPage",
    "ExportReport",
    "FeedDamaged",
    "FencedOut",
    "Field",
    "FileReport",
    "Halt",
    "Identity",
    "IdentityGraph",
    "IdentityLink",
    "IngestReport",
    "LinkingRules",
    "LostEnd",
    "LostLog",
    "Members",
    "Membership",
    "MergePolicy",
    "Namespace",
    "OffsetGap",
    "OpenEdge",
    "PartitionStatus",
    "Pending",
    "PendingReceipt",
    "Preview",
    "Profile",
    "ProfileActorsError",
    "ProjectionConfiguration",
    "Receipt",
    "Recovered",
    "Relationship",
    "Replica",
    "Restored",
    "RowStream",
    "RuleError",
    "Schema",
    "SchemaError",
    "ScrubReport",
    "SegmentDefinition",
    "SimulatedLink",
    "Simulation",
    "Source",
    "StorageFull",
    "Store",
    "StoreStatus",
    "StoreUnavailable",
    "Unlinked",
    "Weather",
    "connect",
    "evaluate",
    "format_rule",
    "open_edge",
    "recover",
    "restore",
    "rule_from_json",
    "rule_to_json",
    "simulate",
    "start",
]
