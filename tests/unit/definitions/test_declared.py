"""Linking rules as a definition: one per store, checked, in files, taken back by deletion."""

from __future__ import annotations

from typing import Any

import pytest

from profile_actors.definitions.catalogue_changes import decode, encode, extended
from profile_actors.definitions.declared import Catalogue, LinkingRules, Namespace
from profile_actors.definitions.placeholders import PLACEHOLDERS
from profile_actors.errors import DefinitionError
from profile_actors.ingest.definition_files import parse_definitions
from profile_actors.rules.catalogue.change_check import find, removed

BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_size": 1}, "expected max_size of 2 to 2147483647, got 1"),
    ({"max_people": 0}, "expected max_people of 1 to 2147483647, got 0"),
    ({"max_size": 1 << 31}, "expected max_size of 2 to"),
    ({"max_size": "many"}, "Expected `int`, got `str` - at `$.max_size`"),
    ({"placeholders": "null"}, "Expected `array`, got `str`"),
    ({"placeholders": (0,)}, "Expected `str`, got `int`"),
    ({"placeholders": ("x" * 600,)}, "expected placeholders of at most"),
    ({"placeholders": ("ok", " @")}, "expected a domain after '@'"),
    ({"placeholders": tuple(map(str, range(10_001)))}, "expected at most 10000 placeholders"),
    ({"placeholders": ("\ud800",)}, "lone surrogates"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=range(len(BAD)))
def test_what_is_no_rule_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError) as error:
        extended(Catalogue(), [LinkingRules(**given)])
    assert words in str(error.value)
    assert "at linking rules" in str(error.value)


def test_a_store_has_one_and_the_default_until_then() -> None:
    empty = Catalogue()
    assert empty.linking == LinkingRules()
    assert empty.linking.placeholders == PLACEHOLDERS
    one = extended(empty, [LinkingRules(max_size=7)])
    assert (one.version, one.linking.max_size) == (1, 7)
    assert decode(encode(one)) == one
    assert extended(one, [LinkingRules(max_size=7)]) is one
    two = extended(one, [Namespace("CRMID", "cross_device"), LinkingRules(max_people=2)])
    assert (two.version, two.linking) == (2, LinkingRules(max_people=2))
    with pytest.raises(DefinitionError, match="got two that differ - at linking rules"):
        extended(empty, [LinkingRules(max_size=7), LinkingRules(max_size=8)])
    assert find(two, "linking") == two.linking
    three = removed(two, two.linking)
    assert (three.version, three.linking, three.linking_rules) == (3, LinkingRules(), {})


def test_a_catalogue_of_before_has_the_default() -> None:
    assert decode(b'{"version": 4}').linking == LinkingRules()


def test_a_file_names_them_without_a_name() -> None:
    wanted = [LinkingRules(max_size=9, placeholders=("null", "NO"))]
    text = "linking_rules:\n  max_size: 9\n  placeholders: [null, NO]\n"
    with pytest.raises(DefinitionError, match=r"\$\.linking_rules\.placeholders\[0\].*quote it"):
        parse_definitions(text, ".yaml")
    quoted = "linking_rules:\n  max_size: 9\n  placeholders: ['null', 'NO']\n"
    assert parse_definitions(quoted, ".yaml") == wanted
    assert parse_definitions("linking_rules:\n", ".yaml") == []
    tagged = '[{"type": "linking_rules", "max_size": 9, "placeholders": ["null", "NO"]}]'
    assert parse_definitions(tagged, ".json") == wanted
    with pytest.raises(DefinitionError, match="max_sise"):
        parse_definitions("linking_rules: {max_sise: 9}", ".yaml")
