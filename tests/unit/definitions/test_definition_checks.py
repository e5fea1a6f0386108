"""Labels of an edge destination are those that Ray takes; others would fail when the edge begins,
after they were committed."""

from __future__ import annotations

import pytest
from ray._private.label_utils import validate_label_selector

from profile_actors.definitions.declared import EdgeDestination
from profile_actors.definitions.definition_checks import checked
from profile_actors.errors import DefinitionError

GOOD = [
    {}, {"region": "us-west"}, {"ray.io/market-type": "spot"}, {"a": ""}, {"a": "!b"},
    {"a": "in(b, c.d)"}, {"a": "!in(b,c)"}, {"k" * 63: "v" * 63},
]  # fmt: skip
BAD = [
    {"region": "us west"}, {"us west": "a"}, {"": "a"}, {"-a": "b"}, {"a": "b-"}, {"a": "in()"},
    {"k" * 64: "v"}, {"k": "v" * 64}, {"a/b c": "d"}, {"a" * 254 + "/b": "c"}, {"a": "b\n"},
]  # fmt: skip


@pytest.mark.parametrize("labels", GOOD, ids=str)
def test_labels_that_ray_takes_are_taken(labels: dict[str, str]) -> None:
    assert validate_label_selector(labels) is None
    assert checked(EdgeDestination("e", labels)) == EdgeDestination("e", labels)


@pytest.mark.parametrize("labels", BAD, ids=str)
def test_labels_that_ray_refuses_are_refused(labels: dict[str, str]) -> None:
    assert validate_label_selector(labels) is not None
    with pytest.raises(DefinitionError, match=r"label.* - at edge destination 'e'"):
        checked(EdgeDestination("e", labels))
