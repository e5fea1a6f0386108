"""Partitions on the disks of two nodes: dealt evenly; one node is lost under load, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.keeping import own_ray, program, said

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # three nodes on two cores take a minute


def drill(name: str, folder: Path) -> Any:
    """What a drill of ``two_nodes`` found, in a process of its own."""
    code = f"import sys, pathlib; from tests.cluster.two_nodes import {name}"
    with own_ray() as env:
        found = said(program(f"{code}; {name}(pathlib.Path(sys.argv[1]))", folder, env=env))
    print(found)
    return found


def test_a_lost_node_comes_back_with_its_partitions(tmp_path: Path) -> None:
    found = drill("main", tmp_path)
    assert found["logs"] == [["0", "2"], ["1", "3"]]
    assert found["disks"]
    assert found["waiting"] == [1, 3]
    assert "waiting for disk" in found["halted"]
    assert found["errors"] == []
    assert found["events"] == found["told"] >= 150
    assert found["verify"] == []
    assert found["noticed_s"] < 8
    assert found["longest_read_s"] < 2, "the other node's partitions never paused"
    assert "expected one node with disk" in found["twice"], "two nodes with one disk"
    assert "got one of store another" in found["another"]


def test_a_lost_nodes_partitions_go_on_from_the_other_nodes_copies(tmp_path: Path) -> None:
    """And when it is back it has their standbys, and is given its part again."""
    found = drill("two_copies", tmp_path)
    a, b = found["disks"]
    assert found["first"] == [[a, b], [b, a]]
    assert found["back"] == [[a, b], [a, b]]
    assert found["plan"] == [[1, a, b]]
    assert found["moved"] == [[a, b], [b, a]]
    assert found["files"] == [["partitions/0", "standbys/1"], ["partitions/1", "standbys/0"]]
    assert found["errors"] == []
    assert found["events"] == found["told"] >= 150
    assert found["verify"] == []


def test_a_third_nodes_disk_takes_the_place_of_a_lost_ones(tmp_path: Path) -> None:
    """And the lost one's disk, when it comes back, is rid of what it has."""
    found = drill("third_disk", tmp_path)
    assert found["places"] == ["ac", "ac", "ac"]
    assert found["then"] == ["in sync"] * 3
    assert found["errors"] == []
    assert found["events"] == found["told"] >= 150
    assert found["verify"] == []
    assert found["home"] == [True, True], "each node has a copy of the catalogue"


def test_the_node_with_the_catalogue_is_needed_for_new_things_alone(tmp_path: Path) -> None:
    found = drill("three", tmp_path)
    assert found["waits"] == ["StoreUnavailable", "StoreUnavailable"]
    assert found["longest_s"] < 6, "rows of known definitions and look-ups wait for nobody"
    assert found["accepted"] == found["events"] > 60
    assert found["verify"] == []
