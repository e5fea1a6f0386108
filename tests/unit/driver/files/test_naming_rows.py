"""Which rejected rows name a person, and which only look as if they did."""

from __future__ import annotations

import pytest

from profile_actors.definitions.declared import Dataset, Namespace
from profile_actors.driver.files.naming_rows import names_one_of
from profile_actors.engine.identity.identity import Identity
from profile_actors.ingest.rejects import QuarantineRecord

SPACES = {
    "CRMID": Namespace("CRMID", "cross_device"),
    "Email": Namespace("Email", "email", normalize=("trim", "lower")),
}
FLAT = Dataset("hits", "hit", {"customer": "CRMID", "who.mail": "Email"}, identity_map="ids")
HER = [Identity("CRMID", "7"), Identity("Email", "ann@home.org")]


@pytest.mark.parametrize(
    ("raw", "is_hers"),
    [
        ('{"customer": 7, "at": "never"}', True),
        ('{"customer": "8", "amount": 7}', False),  # somebody else's row, whatever is in it
        ('{"customer": "8", "note": "ann@home.org"}', False),
        ('{"who": {"mail": " Ann@Home.org "}, "at": 1}', True),
        ('{"who.mail": "ANN@home.org", "customer": "8"}', True),
        ('{"who": {"mail": "joann@home.org"}}', False),
        ('{"kunde": "7"}', True),  # why it was rejected: the column has another name
        ('{"kunde": "77"}', False),
        ('{"ids": {"Email": [{"id": "ann@home.org"}]}}', True),
        ('{"ids": {"Email": [{"id": "ben@home.org"}], "odd": 7}, "n": "7"}', False),
        ('{"ids": "ann@home.org"}', True),
        ('["ann@home.org"]', True),
        ('7,"ann, sales",2026', True),
        ("8;ANN@home.org;2026", True),
        ("8,joann@home.org,77", False),
        ('8,"broken ann@home.org', False),
        ('{"customer": "8", "note": "cut of ann@home.or', False),
        ('{"who": {"mail": "Ann@home.org", "note": "cut', True),
        ('{"customer": "77", "note": "cut', False),
        ("", False),
    ],
)
def test_whole_values_where_a_row_names_people(raw: str, is_hers: bool) -> None:
    names = names_one_of(HER, FLAT, SPACES)
    assert names(QuarantineRecord("d", 0, "at", "no time", raw)) is is_hers


def test_case_counts_where_the_namespace_keeps_it() -> None:
    names = names_one_of([Identity("CRMID", "ann")], FLAT, SPACES)
    assert not names(QuarantineRecord("d", 0, "", "", '{"customer": "Ann", "cut'))
    assert names(QuarantineRecord("d", 0, "", "", '{"customer": "ann", "cut'))
