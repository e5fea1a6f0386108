"""What one definition must be, by itself and beside those it names."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import re2
from msgspec import structs

from profile_actors.definitions.declared import (
    ROOMS,
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    EdgeDestination,
    Field,
    LinkingRules,
    MergePolicy,
    ProjectionConfiguration,
    Schema,
    SegmentDefinition,
    label_of,
    name_of,
)
from profile_actors.definitions.field_types import (
    MAX_NAME_CHARS,
    NUMBERS,
    FieldType,
    innermost,
    parse_type,
)
from profile_actors.definitions.retention import retention_problem
from profile_actors.definitions.schema_paths import columns_of, fields_of, tree_of
from profile_actors.definitions.time_formats import compile_time_format
from profile_actors.errors import UNDECODED, DefinitionError, SchemaError

MAX_TIME_FORMATS = 20  # each is tried on every text that those before it do not fit


# What Ray takes as a label and as what is wanted of one, or it refuses to start an actor.
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"


LABEL_KEY = re2.compile(rf"(?:{LABEL}(?:\.{LABEL})*/)?{LABEL}")


LABEL_WANTED = re2.compile(rf"|!?{LABEL}|!?in\({LABEL}(?:, ?{LABEL})*\)")


MAX_LABEL_PREFIX_CHARS = 253


MAX_LINKED = 1 << 31  # identities are counted in 32 bits


MAX_PLACEHOLDERS = 10_000


def checked(raw: Definition) -> Definition:
    """The item with every value's type checked, in canonical form."""
    if type(raw) not in ROOMS:
        raise DefinitionError(
            f"expected {', '.join(kind.__name__ for kind in ROOMS)}, got {type(raw).__name__}"
        )
    try:
        item: Definition = msgspec.convert(msgspec.to_builtins(raw), type(raw))
    except (TypeError, ValueError, *UNDECODED) as error:
        raise DefinitionError(f"{error} - at {label_of(raw)}") from None
    try:
        msgspec.json.encode(item)
    except UnicodeEncodeError as error:
        raise DefinitionError(
            f"expected UTF-8 text, got {error.object!r} - at {label_of(raw)};"
            " lone surrogates cannot be stored"
        ) from None
    names = [name_of(item)]
    if isinstance(item, MergePolicy):
        names += [*item.order, *(item.events or ())]
    if isinstance(item, Dataset):
        names += [*item.identities, *item.identities.values(), *_roles(item).values()]
        names += [] if item.event_type is None else [item.event_type]
        names += [] if isinstance(item.ignore, str) else [path for path in item.ignore if path]
    for name in names:
        if not 0 < len(name) <= MAX_NAME_CHARS or any(ord(c) < 32 for c in name):
            raise DefinitionError(
                f"expected a name of 1 to {MAX_NAME_CHARS} characters without control characters,"
                f" got {name[:MAX_NAME_CHARS]!r} - at {label_of(item)}"
            )
    problem = _edge_problem(item) if isinstance(item, EdgeDestination) else None
    if isinstance(item, LinkingRules):
        problem = linking_problem(item)
    if isinstance(item, MergePolicy):
        problem = _policy_problem(item)
    if problem:
        raise DefinitionError(f"{problem} - at {label_of(item)}")
    return _checked_schema(item) if isinstance(item, Schema) else item


def linking_problem(rules: LinkingRules) -> str | None:
    """What is wrong with linking rules, or None."""
    for name, least in (("max_size", 2), ("max_people", 1)):
        got = getattr(rules, name)
        if not least <= got < MAX_LINKED:
            return f"expected {name} of {least} to {MAX_LINKED - 1}, got {got}"
    if len(rules.placeholders) > MAX_PLACEHOLDERS:
        return f"expected at most {MAX_PLACEHOLDERS} placeholders, got {len(rules.placeholders)}"
    for text in rules.placeholders:
        if len(text) > MAX_NAME_CHARS:
            return (
                f"expected placeholders of at most {MAX_NAME_CHARS} characters, got one of"
                f" {len(text)}: {text[:MAX_NAME_CHARS]!r}"
            )
        if text.strip() == "@":
            return "expected a domain after '@' as a placeholder, got '@' alone"
    return None


def _policy_problem(policy: MergePolicy) -> str | None:
    """What is wrong with a merge policy by itself, or None."""
    is_ordered = policy.attributes == "dataset_precedence"
    if is_ordered != bool(policy.order):
        wanted = "an order of datasets" if is_ordered else "no order"
        return f"expected {wanted} with {policy.attributes!r}, got {list(policy.order)}"
    for name, given in (("order", policy.order), ("events", policy.events or ())):
        if len(set(given)) < len(given):
            return f"expected each dataset once in {name}, got {list(given)}"
    return None


def check_policies(catalogue: Catalogue) -> None:
    """Whether merge policies and those who name them fit together. Raises DefinitionError."""
    policies = catalogue.merge_policies
    chosen = [name for name, policy in policies.items() if policy.default]
    if len(chosen) > 1:
        raise DefinitionError(
            f"expected one default merge policy, got {' and '.join(map(repr, chosen))}; apply the"
            " former one with default=False"
        )
    for policy in policies.values():
        for behavior, names in (("record", policy.order), ("event", policy.events or ())):
            for name in names:
                found = catalogue.datasets.get(name)
                if found is None or catalogue.schemas[found.schema].behavior != behavior:
                    raise DefinitionError(
                        f"expected a dataset of {behavior}s, got {name!r} - at {label_of(policy)}"
                    )
    rules: list[ComputedAttribute | SegmentDefinition] = list(catalogue.computed.values())
    for rule in [*rules, *catalogue.segments.values()]:
        if rule.merge_policy is not None and rule.merge_policy not in policies:
            raise DefinitionError(
                f"expected a defined merge policy, got {rule.merge_policy!r}{_known(policies)} - at"
                f" {label_of(rule)}"
            )


def _edge_problem(edge: EdgeDestination) -> str | None:
    """What is wrong with an edge destination, or None."""
    if edge.ttl_s is not None and edge.ttl_s < 1:
        return f"expected a ttl_s of at least 1, got {edge.ttl_s}"
    for key, value in edge.labels.items():
        prefix = key.rpartition("/")[0]
        if len(prefix) > MAX_LABEL_PREFIX_CHARS or not LABEL_KEY.fullmatch(key):
            return (
                "expected the key of a Ray label (1 to 63 letters, digits, '-', '_' and '.',"
                f" optionally after a domain and '/'), got {key!r}"
            )
        if not LABEL_WANTED.fullmatch(value):
            return (
                "expected a label's value of up to 63 letters, digits, '-', '_' and '.', or"
                f" !value, in(a, b), !in(a, b), got {value!r} for {key!r}"
            )
    return None


def _checked_schema(schema: Schema) -> Schema:
    tree_of(schema)
    fields: dict[str, str | Field] = {}
    for path, field in fields_of(schema).items():
        where = f"schema {schema.name!r}, field {path!r}"
        problem = _constraint_problem(field, innermost(parse_type(field.type)))
        if problem:
            raise SchemaError(f"{problem} - at {where}")
        plain = Field(field.type.strip())
        fields[path] = plain.type if field == plain else field
    return structs.replace(schema, fields=fields)


def _constraint_problem(field: Field, kind: FieldType) -> str | None:
    """What is wrong with a field's constraints, or None."""
    bounds = [b for b in (field.minimum, field.maximum) if b is not None]
    if bounds and kind.kind not in NUMBERS:
        return f"expected minimum and maximum on numbers only, got a {kind.kind}"
    if (field.pattern is not None or field.max_length is not None) and kind.kind != "string":
        return f"expected pattern and max_length on strings only, got a {kind.kind}"
    if field.enum is not None and kind.kind not in ("string", "integer", "double"):
        return f"expected an enum on strings, integers and doubles only, got a {kind.kind}"
    if field.enum is not None and not field.enum:
        return "expected at least one value in enum, got none"
    words = field.enum or ()
    if kind.kind == "string" and any(not isinstance(word, str) for word in words):
        return f"expected strings in enum, got {words!r}"
    numbers = [*bounds, *words] if kind.kind != "string" else bounds
    for number in numbers:
        if isinstance(number, str) or (kind.kind == "integer" and not isinstance(number, int)):
            return f"expected {kind.kind} values in constraints, got {number!r}"
        if not math.isfinite(number) or (
            isinstance(number, int) and not -(2**63) <= number < 2**63
        ):
            return f"expected finite numbers within int64 in constraints, got {number!r}"
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        return f"expected minimum <= maximum, got {bounds[0]!r} > {bounds[1]!r}"
    if field.max_length is not None and field.max_length < 1:
        return f"expected a max_length of at least 1, got {field.max_length}"
    if field.pattern is not None:
        try:
            re2.compile(field.pattern)
        except re2.error as error:
            return f"expected an RE2 pattern, got {field.pattern!r}: {error}"
    return None


def _roles(dataset: Dataset) -> dict[str, str]:
    """The mapped columns besides identities: role to column name."""
    names = ("identity_map", "timestamp", "id", "event_type_field")
    return {name: getattr(dataset, name) for name in names if getattr(dataset, name) is not None}


def check_dataset(dataset: Dataset, catalogue: Catalogue) -> None:
    """References and roles of one dataset. Raises DefinitionError."""
    problem = _dataset_problem(dataset, catalogue)
    if problem:
        raise DefinitionError(f"{problem} - at {label_of(dataset)}")


def check_projection(projection: ProjectionConfiguration, catalogue: Catalogue) -> None:
    """Its destination. Raises DefinitionError."""
    if projection.destination not in catalogue.destinations:
        raise DefinitionError(
            f"expected a defined edge destination, got {projection.destination!r}"
            f"{_known(catalogue.destinations)} - at {label_of(projection)}"
        )


def _dataset_problem(dataset: Dataset, catalogue: Catalogue) -> str | None:
    schema = catalogue.schemas.get(dataset.schema)
    if schema is None:
        return f"expected a defined schema, got {dataset.schema!r}{_known(catalogue.schemas)}"
    for code in dataset.identities.values():
        if code not in catalogue.namespaces:
            return f"expected a defined namespace, got {code!r}{_known(catalogue.namespaces)}"
    if not dataset.identities and dataset.identity_map is None:
        return "expected at least one identity field or an identity_map, got none"
    if dataset.primary is not None and dataset.primary not in dataset.identities:
        return f"expected primary to be one of its identity fields, got {dataset.primary!r}"
    is_event = schema.behavior == "event"
    if is_event and dataset.timestamp is None:
        return "expected a timestamp column, since its schema is of events, got none"
    if dataset.event_type is not None and dataset.event_type_field is not None:
        return "expected event_type or event_type_field, got both"
    if not is_event and (dataset.event_type is not None or dataset.event_type_field is not None):
        return f"expected no event type, since its schema is a {schema.behavior}, got one"
    if is_event and dataset.mode != "upsert":
        return f"expected mode 'upsert' of an event dataset, got {dataset.mode!r}"
    return (
        retention_problem(dataset, schema)
        or _time_problem(dataset)
        or _ignore_problem(dataset, schema)
        or _role_problem(dataset, schema)
    )


def _ignore_problem(dataset: Dataset, schema: Schema) -> str | None:
    """What is wrong with the columns to leave out, or None."""
    if isinstance(dataset.ignore, str):
        if dataset.ignore == "*":
            return None
        return f"expected a list of columns or '*' as ignore, got {dataset.ignore!r}"
    mapped = [*_roles(dataset).values(), *dataset.identities]
    fields = {path.replace("[]", "") for path in schema.fields}
    for path in dataset.ignore:
        plain = path.replace("[]", "")
        needed = [name for name in (*mapped, *fields) if f"{name}.".startswith(f"{plain}.")]
        if needed:
            return (
                f"expected columns to ignore that nothing needs, got {path!r}, but the schema or"
                f" the dataset's mapping names {min(needed)!r}"
            )
    return None


def _time_problem(dataset: Dataset) -> str | None:
    """What is wrong with the declared unit and forms of times, or None."""
    given = dataset.timestamp_format
    if dataset.timestamp is None and (given, dataset.timestamp_unit) != (None, None):
        return "expected a timestamp column with timestamp_unit and timestamp_format, got none"
    texts = () if given is None else (given,) if isinstance(given, str) else given
    if given is not None and not 0 < len(texts) <= MAX_TIME_FORMATS:
        return f"expected 1 to {MAX_TIME_FORMATS} formats in timestamp_format, got {len(texts)}"
    try:
        for text in texts:
            compile_time_format(text)
    except ValueError as error:
        return f"{error} as timestamp_format"
    return None


def _role_problem(dataset: Dataset, schema: Schema) -> str | None:
    """Mapped columns that are schema fields must have a type that fits."""
    columns = columns_of(schema)
    tree_names = {path.split(".")[0].removesuffix("[]") for path in schema.fields}
    fits = {
        "timestamp": ("timestamp", "date", "integer"),
        "id": ("string", "integer"),
        "event_type_field": ("string",),
        "identity_map": (),
    }
    mapped = [*_roles(dataset).items(), *(("identities", path) for path in dataset.identities)]
    for role, path in mapped:
        kinds = fits.get(role, ("string", "integer"))
        got = columns[path].kind if path in columns else None
        if got is None and path in tree_names:
            got = "object"
        if got is not None and got not in kinds:
            allowed = " or ".join(kinds) or "no field of the schema"
            return f"expected {allowed} as {role}, got field {path!r} of type {got}"
    return None


def _known(names: Iterable[str]) -> str:
    return f"; defined are {', '.join(sorted(names)) or 'none'}"
