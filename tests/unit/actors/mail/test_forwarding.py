"""What a receipt says of rows that are on their way, while the writer goes on."""

from __future__ import annotations

import sys
import threading

import pyarrow as pa

from profile_actors.actors.mail.forwarding import Forwarding
from profile_actors.actors.mail.postman import Postman
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue
from profile_actors.engine.identity.books import Place, Residence
from profile_actors.engine.identity.mailbox import Post
from profile_actors.engine.identity.messages import CUT, Named, Op
from profile_actors.engine.log.in_memory import MemoryCheckpoints, MemoryFeed, MemoryLog
from profile_actors.engine.log.sub_batch import Reply, SubBatch
from profile_actors.engine.partition.partition import Partition


def test_rows_on_their_way_are_counted_while_identities_are_joined() -> None:
    config = Config(max_profiles=1000)
    stores = MemoryLog(), MemoryFeed(), MemoryCheckpoints()
    partition = Partition(*stores, config, post=Post("0", lambda _: "0"))
    partition.define(Catalogue(1), 1)
    partition.commit([], 1, withdrawn=[Op(CUT, Named(1, 1, "CRMID", "w"), version=1)])

    def no_call(*_: object) -> None:
        raise AssertionError("this postman is not started")

    postman = Postman("0", partition, no_call, 1.0)  # type: ignore[arg-type]
    forwarding = Forwarding(partition, postman, 1)
    others = pa.array([[{"namespace": "ECID", "value": "x"}], None])
    keys = pa.array([7, 7], pa.uint64())
    table = pa.table({"@k0": keys, "@k1": keys, "@others": others})
    batch = SubBatch("web", "p", None, 1, 1, table=table)
    residences = partition.state.homes.residences
    stop = threading.Event()

    def join() -> None:
        number = 7
        while not stop.is_set():
            one = Named(number, number, "CRMID", str(number))
            residences[one.key] = Residence(one, Place(one, 1, 1), 1)
            number += 1 if number < 20_000 else 0

    thread = threading.Thread(target=join)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        while (7, 7) not in residences:
            pass
        for _ in range(20):
            reply = forwarding.told(batch, Reply("ok", accepted=2, position=partition.position - 1))
            assert reply.forwarding == 2
        alone = SubBatch("web", "p", None, 1, 1, table=table.drop_columns(["@others"]))
        reply = forwarding.told(alone, Reply("ok", accepted=2, position=partition.position - 1))
        assert reply.forwarding == 0, "whose identities are not linked waits for nobody"
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
