"""A driver's connection to one store: its actors, its definitions, reads that retry.

Theory: every read carries the version of the definitions its caller knows; a partition behind it
says so, is given them, and is asked again. So a driver never sees answers from before its own
``apply``, even if a partition was restarted between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from profile_actors.actors.calls import LONG_CALL_FACTOR, Lost, Patience, Remote
from profile_actors.actors.wire import loads
from profile_actors.config import Config
from profile_actors.definitions.declared import Catalogue, Namespace, named
from profile_actors.driver.read_lines import Asked, ReadLines, Unanswered
from profile_actors.engine.reading.answers import EventPage, Profile
from profile_actors.engine.reading.fields import EVERYTHING, Fields, check_kind, fields_of, under
from profile_actors.engine.reading.profile_columns import Answer, Elsewhere
from profile_actors.errors import DefinitionError
from profile_actors.ingest.identity_keys import BUCKET_SHIFT, identity_key, keys_of
from profile_actors.rules.catalogue.merge_views import is_single

LOOK_UPS_PER_CALL = 1_000
"""Profiles asked for in one call: bounds the message and how long the partition is held."""


SMALL_READS = frozenset({"profiles", "events"})
"""Reads that cost a partition less than a call of Ray does: they go by direct lines."""


ELSEWHERE_TRIES = 3
"""How often the owner of an identity is asked again where her profile is, if it was not there: she
is just being shown in another place."""


KEPT_SELECTORS = 64
"""Values of ``fields=`` whose meaning is remembered."""


Selectors = Iterable[str] | None
"""What ``fields=`` takes (``engine.reading.fields``); None: everything."""


class Connection:
    """What the doors share."""

    def __init__(
        self,
        path: str,
        clock: str,
        config: Config,
        seed: int,
        assignment: np.ndarray,
        coordinator: Remote,
        partitions: Sequence[Remote],
        restored: str = "",
    ) -> None:
        """restored: see ``StoreSettings``."""
        self.path = path
        self.clock = clock
        self.config = config
        self.long_timeout_s = config.call_timeout_s * LONG_CALL_FACTOR
        self.coordinator = coordinator
        self.partitions = list(partitions)
        self.catalogue: Catalogue = coordinator.call("catalogue")
        self.seed = seed
        self.restored = restored
        self.assignment = assignment
        self._lines = ReadLines(self.partitions)
        self._others: dict[str, tuple[Any, ReadLines]] = {}
        self._asked: dict[Any, tuple[int, Fields]] = {}

    def close(self) -> None:
        """Hang up; whoever asks from now on is told what Ray tells."""
        self._lines.close()
        for _, lines in list(self._others.values()):
            lines.close()

    def lines_to(self, other: Remote) -> ReadLines:
        """The direct lines to another actor that has some: an edge. One of that name that was begun
        anew has others."""
        handle, lines = self._others.get(other.name, (None, None))
        if lines is None or handle != other.handle:
            lines = ReadLines([other])
            self._others[other.name] = other.handle, lines
        return lines

    def deliver(self, partition: int) -> None:
        """Give a partition the definitions this driver knows."""
        self.partitions[partition].call("define", self.catalogue)

    def read(self, partition: int, name: str, *args: Any) -> Any:
        """Ask one partition (see ``PartitionActor.read``)."""
        answer = self._finish(partition, self._begin(partition, name, args), name, args)
        while answer is None:
            self.deliver(partition)
            answer = self.partitions[partition].call("read", self.catalogue.version, name, *args)
        return loads(answer)

    def _begin(self, partition: int, name: str, args: tuple[Any, ...]) -> Any:
        """Ask by a direct line if there is one, else by Ray; what ``_finish`` takes."""
        version = self.catalogue.version
        if name in SMALL_READS:
            asked = self._lines.begin(partition, version, name, *args)
            if asked is not None:
                return asked
        return self.partitions[partition].begin("read", version, name, *args)

    def _finish(self, partition: int, begun: Any, name: str, args: tuple[Any, ...]) -> Any:
        """The answer, asked again by Ray as long as it is lost; None where the partition's
        definitions are older."""
        actor = self.partitions[partition]
        question = (self.catalogue.version, name, *args)
        if isinstance(begun, Asked):
            try:
                return self._lines.finish(begun)
            except Unanswered:
                begun = actor.begin("read", *question)
        try:
            return actor.finish(begun, Patience(actor.timeout_s))
        except Lost:
            return actor.call("read", *question)

    def ahead(self, partition: int, name: str, *args: Any) -> Callable[[], Any]:
        """Ask one partition now, as ``read`` does, and go on; called, what it gives waits for the
        answer."""
        begun = self._begin(partition, name, args)

        def answer() -> Any:
            found = self._finish(partition, begun, name, args)
            return self.read(partition, name, *args) if found is None else loads(found)

        return answer

    def read_each(self, questions: dict[int, tuple[Any, ...]], name: str) -> dict[int, Any]:
        """Ask several partitions at the same time, each with its own arguments.

        Raises the first error, after all of them have answered.
        """
        begun = {
            partition: self._begin(partition, name, args) for partition, args in questions.items()
        }
        out: dict[int, Any] = {}
        errors: list[Exception] = []
        for partition, asked in begun.items():
            args = questions[partition]
            try:
                found = self._finish(partition, asked, name, args)
            except Exception as error:
                errors.append(error)
                continue
            out[partition] = self.read(partition, name, *args) if found is None else loads(found)
        if errors:
            raise errors[0]
        return out

    def read_all(self, name: str, *args: Any) -> list[Any]:
        """Ask every partition the same at the same time; answers in their order."""
        answers = self.read_each(dict.fromkeys(range(len(self.partitions)), args), name)
        return [answers[partition] for partition in range(len(self.partitions))]

    def is_shared(self, dataset: str) -> bool:
        """Whether every partition has all rows of a dataset: those of lookup entities, which rules
        read beside everybody's rows."""
        found = self.catalogue.datasets[dataset]
        return self.catalogue.schemas[found.schema].behavior == "lookup"

    def owner(self, namespace: str, value: str) -> tuple[int, tuple[int, int]]:
        """The partition that owns an identity, and the identity's 128-bit key in two halves."""
        return identity_key(self.namespace(namespace), value, self.seed, self.assignment)

    def namespace(self, code: str) -> Namespace:
        """The definition of a namespace. Raises DefinitionError."""
        definition = named(self.catalogue.namespaces, code)
        if definition is None:
            known = ", ".join(sorted(self.catalogue.namespaces)) or "none yet"
            raise DefinitionError(
                f"expected the code of a namespace, got {code!r} - at a look-up; known: {known}"
            )
        return definition

    def check_segment(self, name: str, newest: Callable[[], Catalogue], at: str) -> None:
        """Raises DefinitionError unless a segment has the name, by the newest definitions too."""
        known = self.catalogue.segments
        if named(known, name) is None:
            known = newest().segments  # another driver may have applied it since
        if named(known, name) is None:
            raise DefinitionError(
                f"expected the name of a segment, got {name!r} - at {at}; known:"
                f" {', '.join(sorted(known)) or 'none yet'}"
            )

    def asked_under(
        self,
        selectors: Selectors,
        newest: Callable[[], Catalogue],
        policy: str | None,
        sources: bool,
    ) -> Fields:
        """What ``fields=`` says, by a merge policy if one is named, with sources if asked."""
        fields = self.asked(selectors, newest)
        if policy is not None:
            known = self.catalogue
            known = known if policy in known.merge_policies else newest()
            fields = under(fields, policy, known)
        if selectors is not None:
            check_kind(fields, self.catalogue)
        return msgspec.structs.replace(fields, sources=sources) if sources else fields

    def asked_of(
        self, segment: str | None, selectors: Selectors, newest: Callable[[], Catalogue]
    ) -> Fields:
        """What ``fields=`` says of everybody, or of a segment's members: single identities or
        people, as its policy says."""
        fields, known = self.asked(selectors, newest), self.catalogue
        rule = None if segment is None else named(known.segments, segment)
        if rule is not None and is_single(known, rule.merge_policy) != is_single(known, None):
            fields = msgspec.structs.replace(fields, policy=rule.merge_policy)
        check_kind(fields, known)
        return fields

    def asked(self, selectors: Selectors, newest: Callable[[], Catalogue]) -> Fields:
        """What ``fields=`` says. newest: the definitions in force, asked for if a name is unknown:
        another driver may have applied it since."""
        if selectors is None:
            return EVERYTHING
        if isinstance(selectors, Iterable) and not isinstance(selectors, str):
            selectors = tuple(selectors)
        if not isinstance(selectors, tuple) or not all(isinstance(s, str) for s in selectors):
            return fields_of(selectors, self.catalogue)  # which says what is wrong
        version, known = self._asked.get(selectors, (-1, EVERYTHING))
        if version != self.catalogue.version:
            try:
                known = fields_of(selectors, self.catalogue)
            except DefinitionError:
                known = fields_of(selectors, newest())
            while len(self._asked) >= KEPT_SELECTORS:
                del self._asked[next(iter(self._asked))]
            self._asked[selectors] = self.catalogue.version, known
        return known

    def profiles(
        self, identities: Sequence[tuple[str, str]], fields: Fields = EVERYTHING
    ) -> list[Profile | None]:
        """The profiles of pairs of namespace and value, in their order, None for unknown ones."""
        return self.profiles_of_keys(self.keys(identities), fields)

    def profiles_of_keys(
        self, keys: np.ndarray, fields: Fields = EVERYTHING
    ) -> list[Profile | None]:
        """The same by identity keys. uint64[n, 2]"""
        owners = self._owners(keys)
        out: list[Profile | None] = []
        for first in range(0, len(owners), LOOK_UPS_PER_CALL):
            part = slice(first, first + LOOK_UPS_PER_CALL)
            out += self._profiles(owners[part], keys[part], fields)
        return out

    def keys(self, identities: Sequence[tuple[str, str]]) -> np.ndarray:
        """Keys of identities. uint64[n, 2]"""
        namespaces = dict.fromkeys(map(itemgetter(0), identities))
        keys = np.empty((len(identities), 2), np.uint64)
        for code in namespaces:
            namespace = self.namespace(code)
            if len(namespaces) == 1:
                return keys_of(namespace, [value for _, value in identities], self.seed)
            mine = [place for place, (of, _) in enumerate(identities) if of == code]
            keys[mine] = keys_of(namespace, [identities[place][1] for place in mine], self.seed)
        return keys

    def _profiles(
        self, owners: np.ndarray, keys: np.ndarray, fields: Fields
    ) -> list[Profile | None]:
        out, elsewhere = self._profiles_at(owners, keys, fields)
        tries = 1
        while elsewhere:
            places = [place for place, _, _ in elsewhere]
            homes = np.array([home for _, home, _ in elsewhere], np.uint64)
            books = np.array([book for _, _, book in elsewhere], np.uint64)
            there, _ = self._profiles_at(self._owners(homes), books, fields)
            for place, profile in zip(places, there, strict=True):
                out[place] = profile
            missed = [place for place in places if out[place] is None]
            if not missed or tries == ELSEWHERE_TRIES:
                break
            again, elsewhere = self._profiles_at(owners[missed], keys[missed], fields)
            for place, profile in zip(missed, again, strict=True):
                out[place] = profile
            elsewhere = [(missed[row], home, book) for row, home, book in elsewhere]
            tries += 1
        return out

    def _profiles_at(
        self, owners: np.ndarray, keys: np.ndarray, fields: Fields
    ) -> tuple[list[Profile | None], list[Elsewhere]]:
        """What these owners say of these keys, and who is shown by another partition."""
        # What is asked nearly always, everything, need not be said.
        rest = [] if fields is EVERYTHING or fields == EVERYTHING else [fields]
        first = int(owners[0])
        if len(owners) == 1 or (owners == first).all():
            answer: Answer = self.read(first, "profiles", keys.tobytes(), *rest)
            return answer.profiles(), answer.elsewhere
        mine = {partition: (owners == partition).nonzero()[0] for partition in set(owners.tolist())}
        questions = {partition: (keys[rows].tobytes(), *rest) for partition, rows in mine.items()}
        answers: dict[int, Answer] = self.read_each(questions, "profiles")
        out: list[Profile | None] = [None] * len(owners)
        elsewhere: list[Elsewhere] = []
        for partition, answer in answers.items():
            at = mine[partition].tolist()
            for place, profile in zip(at, answer.profiles(), strict=True):
                out[place] = profile
            elsewhere += [(at[row], home, book) for row, home, book in answer.elsewhere]
        return out, elsewhere

    def _owners(self, keys: np.ndarray) -> np.ndarray:
        """The partitions that own identities. keys: uint64[n, 2]"""
        return self.assignment[(keys[:, 0] >> np.uint64(BUCKET_SHIFT)).astype(np.intp)]

    def events(self, namespace: str, value: str, *asked: Any) -> EventPage:
        """A page of one profile's events, wherever its rows are together."""
        partition, key = self.owner(namespace, value)
        for _ in range(ELSEWHERE_TRIES):
            page: EventPage = self.read(partition, "events", key, *asked)
            if page.elsewhere is None:
                break
            home, book = page.elsewhere
            there = int(self.assignment[home[0] >> BUCKET_SHIFT])
            page = self.read(there, "events", book, *asked)
            if page.events:
                break
        return msgspec.structs.replace(page, elsewhere=None)
