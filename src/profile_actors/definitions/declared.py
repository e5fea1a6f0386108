"""What a user declares: namespaces, schemas, datasets, rules, as msgspec structs.

Theory: these structs are the catalogue's format. They are plain data; whoever reads them decides.

Rules for editors: a stored catalogue was written by an older version. A new field gets the default
that means what its absence meant.

Limits: rules are text here; whoever compiles them checks them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from profile_actors.definitions.placeholders import PLACEHOLDERS

T = TypeVar("T")


NamespaceKind = Literal[
    "cookie", "device", "cross_device", "email", "phone", "non_people", "partner"
]


NOT_PEOPLE: tuple[NamespaceKind, ...] = ("non_people", "partner")
"""Kinds of namespaces whose identities are no people."""


Behavior = Literal["event", "record", "lookup"]


Step = Literal["trim", "lower", "digits"]


STEPS: tuple[Step, ...] = ("trim", "lower", "digits")


TimestampUnit = Literal["ms", "s", "us", "ns", "excel_days"]


State = Literal["published", "draft", "inactive"]


class Namespace(msgspec.Struct, frozen=True, tag="namespace", forbid_unknown_fields=True):
    """The kind of an identity. Priority 1 is the highest; None comes after all numbered ones.

    normalize: one or more of 'trim' (blanks around it go), 'lower' and 'digits' (only 0-9 stay),
    done in that order, always after NFC. An e-mail or phone namespace that is new to a store trims
    too, unless it says () for nothing at all; one that is stored keeps what it has.
    """

    code: str
    kind: NamespaceKind
    unique: bool = False
    priority: int | None = None
    normalize: Step | tuple[Step, ...] | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of normalisation, in the order in which they are done."""
        given = (self.normalize,) if isinstance(self.normalize, str) else self.normalize or ()
        return tuple(step for step in STEPS if step in given)


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schema field with constraints. pattern: RE2, found anywhere in the text."""

    type: str
    required: bool = False
    enum: tuple[str | int | float, ...] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    pattern: str | None = None
    max_length: int | None = None
    labels: tuple[str, ...] = ()


class Schema(msgspec.Struct, frozen=True, tag="schema", forbid_unknown_fields=True):
    """A typed shape. fields: dotted path (``a.b``, ``items[].sku``) to type text or Field."""

    name: str
    behavior: Behavior
    fields: dict[str, str | Field]


class Dataset(msgspec.Struct, frozen=True, tag="dataset", forbid_unknown_fields=True):
    """A named source of rows of one schema, and which of its columns mean what.

    timestamp_unit: of numbers in the timestamp column, milliseconds since 1970 if None.
    timestamp_format: strptime formats of its texts, tried in order; without any, ISO-8601.
    ignore: columns that nobody wants, left out unread (an object's name stands for all in it); "*"
    for every column that neither the schema nor this mapping names. retention_days: of
    events, by their own times: older rows leave all answers (docs/OPERATIONS.md); None: never.
    """

    name: str
    schema: str
    identities: dict[str, str] = {}
    identity_map: str | None = None
    primary: str | None = None
    timestamp: str | None = None
    id: str | None = None
    event_type: str | None = None
    event_type_field: str | None = None
    mode: Literal["upsert", "replace"] = "upsert"
    timestamp_unit: TimestampUnit | None = None
    timestamp_format: str | tuple[str, ...] | None = None
    ignore: str | tuple[str, ...] = ()
    retention_days: int | None = None


class SegmentDefinition(msgspec.Struct, frozen=True, tag="segment", forbid_unknown_fields=True):
    """A boolean rule; the profiles for which it is true are the segment's members.

    state: a draft is checked, but neither evaluated nor served; an inactive one keeps its last
    memberships and serves none. version: given by the catalogue, 1 at first, one more at each
    change of rule, description or merge policy; what is passed to ``apply`` is not looked at.
    merge_policy: the name of the one by which the rule sees a profile; None: the default one.
    """

    name: str
    rule: str
    description: str = ""
    state: State = "published"
    version: int = 1
    merge_policy: str | None = None


class ComputedAttribute(msgspec.Struct, frozen=True, tag="computed", forbid_unknown_fields=True):
    """A named value computed from each profile by a rule. state, version, merge_policy: as of a
    segment."""

    name: str
    rule: str
    description: str = ""
    state: State = "published"
    version: int = 1
    merge_policy: str | None = None


class MergePolicy(msgspec.Struct, frozen=True, tag="merge_policy", forbid_unknown_fields=True):
    """Which of the data of a person counts where several datasets or identities have some.

    attributes: 'timestamp_ordered', of each leaf what was stated last, at equal times by the
    dataset whose name sorts first; 'dataset_precedence', what the first dataset of ``order`` states
    that states it at all; what is not in it counts for nothing. events: the datasets whose events
    rules see; None: all. stitching: 'graph', a person is all her identities; 'none', each identity
    is a profile by itself. default: whether it is the policy of whoever names none; one at most is.
    version: as of a segment.
    """

    name: str
    attributes: Literal["timestamp_ordered", "dataset_precedence"] = "timestamp_ordered"
    order: tuple[str, ...] = ()
    events: tuple[str, ...] | None = None
    stitching: Literal["graph", "none"] = "graph"
    default: bool = False
    version: int = 1


class LinkingRules(msgspec.Struct, frozen=True, tag="linking_rules", forbid_unknown_fields=True):
    """When identities that stood together are not taken for one person (docs/IDENTITY.md). A store
    has one, by default that of ``LinkingRules()``.

    max_size: identities of one person; over it the oldest link is left out. max_people: an identity
    linked directly with more identities of one unique namespace links nobody (a kiosk, a shared
    address). placeholders: values that name nobody, as ``definitions.placeholders`` reads them;
    they are passed over where rows come in, from then on.
    """

    max_size: int = 50_000
    max_people: int = 100
    placeholders: tuple[str, ...] = PLACEHOLDERS


class Relationship(msgspec.Struct, frozen=True, tag="relationship", forbid_unknown_fields=True):
    """A field that names an entity of a lookup schema, which rules then read beside it.

    schema, field: of events or records, and the path of a text or integer in it (or an array of
    them), such as ``items[].sku``. target: the lookup schema. name: what the entity stands under in
    the object that has the field; ``items[].product`` then has the target's fields, null while
    nothing is said of such an entity. version: as of a segment.
    """

    schema: str
    field: str
    target: str
    name: str
    version: int = 1


class EdgeDestination(
    msgspec.Struct, frozen=True, tag="edge_destination", forbid_unknown_fields=True
):
    """A place where copies of profiles are kept near whoever looks them up: an edge.

    labels: of the Ray nodes on which it may run, such as {"region": "us-west"}; {}: any. ttl_s:
    a profile that was neither touched nor looked up for so many seconds leaves it, until it is
    touched again; None: all stay. policy: 'proactive', every profile is sent by itself; 'reactive',
    the first look-up of one brings it from the store, and from then on what changes of it is sent.
    """

    name: str
    labels: dict[str, str] = {}
    ttl_s: int | None = None
    policy: Literal["proactive", "reactive"] = "proactive"


class ProjectionConfiguration(
    msgspec.Struct, frozen=True, tag="projection", forbid_unknown_fields=True
):
    """What of each profile an edge destination has, beside its identities. Several projections of
    one destination add up.

    selector: attributes, as ``a(b,c.d)``, several with commas between; "*": all; "": none.
    segments, computed: names, or "all".
    """

    name: str
    destination: str
    selector: str = ""
    segments: tuple[str, ...] | Literal["all"] = ()
    computed: tuple[str, ...] | Literal["all"] = ()


Definition = (
    Namespace
    | Schema
    | Dataset
    | SegmentDefinition
    | ComputedAttribute
    | MergePolicy
    | LinkingRules
    | Relationship
    | EdgeDestination
    | ProjectionConfiguration
)


LINKING = "linking"
"""The name of a store's linking rules, which have none of their own."""


class Catalogue(msgspec.Struct, frozen=True):
    """All definitions of a store at one version. Names are unique within each kind;
    segments and computed attributes share nothing but the DAG of references.

    expired: per dataset with a retention, the instant (ms) whose rows are the oldest that count: it
    is no definition of the user's, but holds from an entry of the log on as definitions do."""

    version: int = 0
    namespaces: dict[str, Namespace] = {}
    schemas: dict[str, Schema] = {}
    datasets: dict[str, Dataset] = {}
    segments: dict[str, SegmentDefinition] = {}
    computed: dict[str, ComputedAttribute] = {}
    destinations: dict[str, EdgeDestination] = {}
    projections: dict[str, ProjectionConfiguration] = {}
    linking_rules: dict[str, LinkingRules] = {}
    merge_policies: dict[str, MergePolicy] = {}
    relationships: dict[str, Relationship] = {}
    expired: dict[str, int] = {}

    @property
    def linking(self) -> LinkingRules:
        """The linking rules in force: those that were applied, else the default ones."""
        return self.linking_rules.get(LINKING) or LinkingRules()


# Where the catalogue keeps each kind, and how errors call it.
ROOMS: dict[type, tuple[str, str]] = {
    Namespace: ("namespaces", "namespace"),
    Schema: ("schemas", "schema"),
    Dataset: ("datasets", "dataset"),
    SegmentDefinition: ("segments", "segment"),
    ComputedAttribute: ("computed", "computed attribute"),
    EdgeDestination: ("destinations", "edge destination"),
    ProjectionConfiguration: ("projections", "projection"),
    LinkingRules: ("linking_rules", "linking rules"),
    MergePolicy: ("merge_policies", "merge policy"),
    Relationship: ("relationships", "relationship"),
}


def name_of(item: Definition) -> str:
    """What the item is called within its kind."""
    if isinstance(item, LinkingRules):
        return LINKING
    return item.code if isinstance(item, Namespace) else item.name


def label_of(item: Definition) -> str:
    """How errors call the item: its kind and name."""
    if isinstance(item, LinkingRules):
        return ROOMS[LinkingRules][1]
    name: object = name_of(item)
    # What is no text may be anything, as large and as deep as one likes.
    shown = repr(name) if isinstance(name, str) else reprlib.repr(name)
    return f"{ROOMS[type(item)][1]} {shown}"


def named(room: Mapping[str, T], name: object) -> T | None:
    """What has the name; None also for what is no name at all."""
    return room.get(name) if isinstance(name, str) else None
