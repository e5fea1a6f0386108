"""Columns of a sub-batch that no schema declares: what the door adds to the columns of the rows.

Theory: a declared name never begins with ``@``, so these cannot meet one. The names stand here and
nowhere else.
"""

from __future__ import annotations

K0 = "@k0"  # the first half of the key of the row's primary identity
K1 = "@k1"  # the second half, both uint64
VALUE = "@value"  # the primary identity's normalised value, a text
NAMESPACE = "@namespace"  # and the code of its namespace
TIMESTAMP = "@timestamp"  # ms UTC
ROW = "@row"  # the row's offset in its producer's stream
ID = "@id"  # a text; only where the dataset declares one
TYPE = "@type"  # the event type; of events only
OTHERS = "@others"  # further identities; only there if a row has more than one
DELETED = "@deleted"  # whether the row deletes its record; of records only, where some row does
APPENDED = "@append"  # the paths of arrays that the row appends to; likewise

HIDDEN = (K0, K1, VALUE, NAMESPACE, TIMESTAMP, ROW, ID, TYPE, OTHERS, DELETED, APPENDED)
