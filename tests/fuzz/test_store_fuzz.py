"""Words that nobody types, at a store that runs: every verb goes to its end, or to one sentence.

By hand (``make fuzz``): what comes before a store is reached is in ``test_door_fuzz``.
"""

from __future__ import annotations

import io
import random
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

import profile_actors as pf
from profile_actors import client
from profile_actors.cli import verbs
from tests.cluster.shop import START, order, orders, ray_runtime, shop
from tests.fuzz.hostile import TEXTS, campaign
from tests.fuzz.hostile_words import says, words_of

__all__ = ["ray_runtime"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_runtime")]

CASES = 200
NAMES = (
    "CRMID", "c0001", "c0002", "orders", "order", "big", "fresh", "spent", "e", "p", "x.csv",
    "x.json", "d.yaml", "out", "out.csv", "xEvent.count() > 1", "spent > 3", "10", "2025-10-10",
)  # fmt: skip
EDGE = (pf.EdgeDestination("e"), pf.ProjectionConfiguration("p", "e", segments="all"))


def test_words_at_a_running_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    (place / "x.csv").write_text(f"_id,customer,at,price,sku\no1,c0001,{START},2,x\n{TEXTS[4]}\n")
    (place / "x.json").write_text('[{"name": "x", "rule": "xEvent.count() > 1"}]')
    (place / "d.yaml").write_text("segments:\n  many:\n    rule: xEvent.count() > 3\n")
    with pf.start(tmp_path / "s", 1, "event") as store:
        store.apply(*shop(), *EDGE)
        store.submit("orders", orders(100))
        monkeypatch.setattr(verbs, "open_store", lambda _: nullcontext(store))
        monkeypatch.setattr(client, "for_a_call", lambda *_, **__: nullcontext(store))

        def case(chance: random.Random) -> None:
            if chance.random() < 0.1:  # what an earlier case has deleted
                with suppress(pf.ProfileActorsError):
                    store.apply(*shop(), *EDGE)
            words = [word for word in words_of(chance, NAMES) if word != "--follow"]
            if any("s3://" in word or "gs://" in word or "http://" in word for word in words):
                return  # nobody answers there, and the libraries wait for him
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}\n"), "utf-8"))
            code, said, error = says(words)
            assert code in (0, 1, 2), (words, code, said, error)
            assert "Traceback" not in said + error, (words, error)

        assert campaign(case, CASES)
        store.apply(*shop())
        assert store.submit("orders", [order(5_000, 1, START + 10**8)]).accepted == 1
        assert store.verify() == []
