"""The pure core: log, operators, fold, membership, and the partition that binds them.

Actors import ``partition.partition``, the driver ``reading.answers``; nothing here knows Ray, disks
or clocks.
"""
