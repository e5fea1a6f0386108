"""The doors through which a program asks who is one person, and parts what was joined."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from profile_actors.actors.calls import Remote
from profile_actors.driver.arguments import Instant, identity_pairs, instant_ms
from profile_actors.driver.connection import Connection, Selectors
from profile_actors.driver.definition_edits import newest
from profile_actors.driver.identity_graphs import (
    IdentityGraph,
    Unlinked,
    identity_graph,
    rest,
    unlink,
)
from profile_actors.driver.keeping.ledger_process import running_ledger
from profile_actors.engine.identity.identity import Identity
from profile_actors.engine.reading.answers import Profile
from profile_actors.errors import Pending

if TYPE_CHECKING:
    from profile_actors.driver.keeping.placement import Placement
    from profile_actors.driver.people.erasing import Erasure


class PeopleDoors:
    """The part of ``Store`` that knows of links."""

    _connection: Connection
    _placement: Placement

    def _check_open(self) -> None:
        raise NotImplementedError

    def identity_graph(
        self, namespace: str, value: str, *, as_of: Instant | None = None
    ) -> IdentityGraph:
        """Who is one person with an identity, and by which links (docs/IDENTITY.md).

        ``members``: her identities, the canonical one first; ``links``: every link at one of them,
        with the newest evidence of it and what became of it: used, redundant, skipped (by which
        rule), withdrawn or void. as_of: by what was known at an earlier instant; the first such
        question to a ledger reads its log. Raises DefinitionError, CallerError for an instant of
        the future, StoreUnavailable.
        """
        self._check_open()
        named = identity_pairs([(namespace, value)])[0]
        if as_of is not None:
            from profile_actors.driver.trials.past_answers import past_graph

            return past_graph(self._connection, self._ledger(), named, instant_ms(as_of))
        return identity_graph(self._connection, self._ledger(), *named)

    def _profile_then(
        self,
        identity: tuple[str, str],
        fields: Selectors,
        as_of: Instant,
        merge_policy: str | None,
        sources: bool,
    ) -> Profile | None:
        """The profile as of an earlier instant; see ``Store.profile``."""
        self._check_open()
        at, named = instant_ms(as_of), identity_pairs([identity])[0]
        known = partial(newest, self._connection)
        asked = self._connection.asked(fields, known)
        asked = structs.replace(asked, policy=merge_policy, sources=sources)
        from profile_actors.driver.trials.past_answers import past_profile

        return past_profile(self._connection, self._ledger(), named, at, asked)

    def unlink(
        self,
        one: tuple[str, str] | Identity,
        other: tuple[str, str] | Identity | None = None,
        at: Instant | None = None,
    ) -> Unlinked:
        """Withdraw the evidence, up to ``at`` (default: now), that two identities belong together,
        or that ``one`` belongs with any; later evidence links again.

        What belonged together only through it comes apart, as if it had never been joined. Durable
        when this returns. Raises DefinitionError, CallerError, StoreUnavailable.
        """
        self._check_open()
        pair = identity_pairs([one] if other is None else [one, other])
        until = None if at is None else instant_ms(at)
        return unlink(self._connection, pair[0], pair[1] if other is not None else None, until)

    def comes_to_rest(self) -> bool:
        """Wait until everything that was sent, and unlinked, is in the profiles it belongs to;
        False if it is not after ``Config.call_timeout_s``."""
        self._check_open()
        try:
            self._rest()
        except Pending:
            return False
        return True

    def delete_profile(self, namespace: str, value: str) -> Erasure:
        """Erase everything that the store has of a person: of every identity that belongs together
        with this one (docs/IDENTITY.md). What arrives later begins afresh.

        Answers when it is done: logs are written anew without her, and what is made from them is
        made again. Meanwhile look-ups and submissions wait, as after a crash of everything
        without a checkpoint: the time that the whole log takes to fold, and never less than a few
        seconds. Somebody unknown has zero rows. Changes (``changes()``) tell nothing of it. Raises
        DefinitionError, StoreUnavailable, Pending.
        """
        self._check_open()
        named = identity_pairs([(namespace, value)])[0]
        from profile_actors.driver.people.erasing import delete_profile

        return delete_profile(self._connection, self._ledger, *named)

    def _ledger(self) -> Remote | None:
        """The ledger, if it runs: whoever has evidence of links begins it."""
        place = self._placement
        timeout_s = self._connection.config.call_timeout_s
        return running_ledger(place.namespace, place.session, timeout_s)

    def _rest(self) -> list[int | None]:
        """Wait until what was sent is in the profiles of the people it belongs to; the partitions'
        clocks then."""
        return rest(self._connection, self._ledger)
