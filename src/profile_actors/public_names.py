"""Public names by and by: what needs Ray or Arrow is imported when a program first uses it.

So ``profile-actors --help`` and rule tools answer at once. The package's ``__init__`` hands these
two functions on as its ``__getattr__`` and ``__dir__`` (PEP 562).
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

PACKAGE = "profile_actors"


PLACES = {
    "AccessReport": "driver.files.access_request",
    "AsyncRowStream": "driver.streams.async_stream",
    "Backup": "driver.shipping.backing_up",
    "Catalogue": "definitions.declared",
    "Change": "engine.reading.answers",
    "Changes": "driver.iterators",
    "ComputedAttribute": "definitions.declared",
    "Dataset": "definitions.declared",
    "Definition": "definitions.declared",
    "Edge": "driver.edges.remote_edge",
    "DryRun": "driver.trials.dry_runs",
    "EdgeDestination": "definitions.declared",
    "EdgeProfile": "engine.edges.edge_rows",
    "Erasure": "driver.people.erasing",
    "EventPage": "engine.reading.answers",
    "ExportReport": "driver.files.exports",
    "Field": "definitions.declared",
    "FileReport": "driver.receipts",
    "Identity": "engine.identity.identity",
    "IdentityGraph": "driver.identity_graphs",
    "IdentityLink": "driver.identity_graphs",
    "IngestReport": "driver.receipts",
    "LinkingRules": "definitions.declared",
    "MergePolicy": "definitions.declared",
    "Members": "driver.iterators",
    "Membership": "engine.reading.answers",
    "Namespace": "definitions.declared",
    "OpenEdge": "driver.edges.remote_edge",
    "PartitionStatus": "engine.reading.answers",
    "PendingReceipt": "driver.receipts",
    "Preview": "engine.reading.answers",
    "Profile": "engine.reading.answers",
    "ProjectionConfiguration": "definitions.declared",
    "Receipt": "driver.receipts",
    "Relationship": "definitions.declared",
    "Restored": "driver.shipping.restored_stores",
    "LostEnd": "storage.replicas.lost_end",
    "CompactionReport": "driver.shipping.compactions",
    "ScrubReport": "driver.shipping.scrubs",
    "Recovered": "driver.replicas.recovering",
    "recover": "driver.replicas.recovering",
    "Replica": "driver.replicas.replica_doors",
    "RowStream": "driver.streams.row_stream",
    "Schema": "definitions.declared",
    "SegmentDefinition": "definitions.declared",
    "Source": "engine.reading.answers",
    "SimulatedLink": "driver.simulation",
    "Simulation": "driver.simulation",
    "Store": "client",
    "StoreStatus": "driver.receipts",
    "Unlinked": "driver.identity_graphs",
    "connect": "client",
    "evaluate": "rules.catalogue.on_documents",
    "format_rule": "rules.json_form.json_writer",
    "open_edge": "driver.edges.remote_edge",
    "restore": "driver.shipping.restored_stores",
    "rule_from_json": "rules.json_form.json_writer",
    "rule_to_json": "rules.json_form.json_writer",
    "simulate": "driver.simulation",
    "start": "client",
}
"""Where each such name stands, below the package."""


def __getattr__(name: str) -> Any:
    """A public name that nobody has used yet; kept in the package, so this runs once for it."""
    if name not in PLACES:
        raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
    value = getattr(import_module(f"{PACKAGE}.{PLACES[name]}"), name)
    setattr(sys.modules[PACKAGE], name, value)
    return value


def __dir__() -> list[str]:
    """What ``dir(profile_actors)`` shows."""
    return list(sys.modules[PACKAGE].__all__)
