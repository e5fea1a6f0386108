"""Selectors of ``fields=``: what they stand for, and what is refused."""

from __future__ import annotations

import pytest

from profile_actors.definitions.declared import (
    Catalogue,
    ComputedAttribute,
    Schema,
    SegmentDefinition,
)
from profile_actors.engine.reading.fields import EVERYTHING, Fields, fields_of, picked
from profile_actors.errors import CallerError, DefinitionError

CATALOGUE = Catalogue(
    1,
    schemas={
        "person": Schema(
            "person",
            "record",
            {
                "mail": "string",
                "home.city": "string",
                "home.geo.lat": "double",
                "home.geo.lon": "double",
                "pets[].kind": "string",
                "scores": "map<integer>",
            },
        ),
        "hit": Schema("hit", "event", {"price": "double"}),
    },
    segments={
        "vip": SegmentDefinition("vip", "true"),
        "big (EU), new": SegmentDefinition("big (EU), new", "true"),
        "a.b": SegmentDefinition("a.b", "true"),
        "old": SegmentDefinition("old", "true", state="inactive"),
    },
    computed={name: ComputedAttribute(name, "1") for name in ("spent", "visits")},
)

MEANINGS = [
    ([], Fields(False, (), (), ())),
    (["identities"], Fields(True, (), (), ())),
    (["identities", "attributes", "segments", "computed"], EVERYTHING),
    (["segments.vip"], Fields(False, (), ("vip",), ())),
    (["segments.vip", "segments"], Fields(False, (), None, ())),
    (["segments.big (EU), new"], Fields(False, (), ("big (EU), new",), ())),
    (["segments( vip ,a.b)"], Fields(False, (), ("a.b", "vip"), ())),
    (["computed(spent,visits)", "computed.spent"], Fields(False, (), (), ("spent", "visits"))),
    (["attributes.home(city,geo.lat)"], Fields(False, ("home.city", "home.geo.lat"), (), ())),
    (["attributes(mail,home(geo(lat)))"], Fields(False, ("home.geo.lat", "mail"), (), ())),
    (["attributes.pets.kind"], Fields(False, ("pets.kind",), (), ())),
    (["attributes.scores.chess"], Fields(False, ("scores.chess",), (), ())),
    (("attributes.home",), Fields(False, ("home",), (), ())),
]


@pytest.mark.parametrize(("selectors", "meaning"), MEANINGS)
def test_a_selector_stands_for_its_paths(selectors: list[str], meaning: Fields) -> None:
    assert fields_of(selectors, CATALOGUE) == meaning


@pytest.mark.parametrize(
    ("selectors", "word"),
    [
        (["segments.nope"], "known: a.b, big"),
        (["segments.old"], "inactive"),
        (["computed(spent,nope)"], "known: spent, visits"),
        (["attributes.home.street"], "profiles have: home, mail"),
        (["attributes.price"], "profiles have"),
        (["attributes.mail.x"], "profiles have"),
    ],
)
def test_unknown_names_are_told(selectors: list[str], word: str) -> None:
    with pytest.raises(DefinitionError, match=word):
        fields_of(selectors, CATALOGUE)


@pytest.mark.parametrize(
    "selectors",
    [
        "segments", 5, [5], [""], ["segment"], ["segments."], ["identities.x"], ["segments(vip"],
        ["segments(vip))"], ["segments vip)"], ["attributes(home(city)"], ["segments(vip,)"],
        ["segments()"],
    ],
)  # fmt: skip
def test_what_is_no_selector_is_told(selectors: object) -> None:
    with pytest.raises(CallerError, match="fields="):
        fields_of(selectors, CATALOGUE)  # type: ignore[arg-type]


def test_picked_is_what_the_paths_name() -> None:
    whole = {
        "mail": "m",
        "home": {"city": "c", "geo": {"lat": 1.0, "lon": 2.0}},
        "pets": [{"kind": "cat", "age": 1}, {"age": 2}],
        "scores": {"chess": 3, "go": 4},
    }
    assert picked(whole, ["home.geo.lat", "pets.kind", "scores.go", "nope.x"]) == {
        "home": {"geo": {"lat": 1.0}},
        "pets": [{"kind": "cat"}, {}],
        "scores": {"go": 4},
    }
    assert picked(whole, ["home.geo.lat", "home"]) == {"home": whole["home"]}
    assert picked(whole, []) == {}
