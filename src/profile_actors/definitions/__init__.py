"""What a user declares, what it must be, and how the catalogue of it changes.

Every room below may import it, module by module or what is handed on here.
"""

from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import (
    ROOMS,
    Behavior,
    Catalogue,
    ComputedAttribute,
    Dataset,
    Definition,
    EdgeDestination,
    Field,
    LinkingRules,
    MergePolicy,
    Namespace,
    NamespaceKind,
    ProjectionConfiguration,
    Relationship,
    Schema,
    SegmentDefinition,
    State,
    label_of,
    name_of,
)
from profile_actors.definitions.field_types import (
    MAX_NAME_CHARS,
    SCALARS,
    FieldType,
    innermost,
    parse_type,
)
from profile_actors.definitions.schema_paths import (
    columns_of,
    fields_of,
    flattened,
    tree_of,
    union_tree,
)
from profile_actors.definitions.time_formats import TimeFormat, compile_time_format

__all__ = [
    "MAX_NAME_CHARS",
    "ROOMS",
    "SCALARS",
    "Behavior",
    "Catalogue",
    "ComputedAttribute",
    "Dataset",
    "Definition",
    "EdgeDestination",
    "Field",
    "FieldType",
    "LinkingRules",
    "MergePolicy",
    "Namespace",
    "NamespaceKind",
    "ProjectionConfiguration",
    "Relationship",
    "Schema",
    "SegmentDefinition",
    "State",
    "TimeFormat",
    "columns_of",
    "compile_time_format",
    "decode",
    "encode",
    "extended",
    "fields_of",
    "flattened",
    "innermost",
    "label_of",
    "name_of",
    "parse_type",
    "tree_of",
    "union_tree",
]
