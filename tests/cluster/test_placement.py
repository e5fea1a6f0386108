"""Partitions on the disks of two nodes: dealt evenly; one node is lost under load, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.keeping import own_ray, program, said

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # three nodes on two cores take a minute


def test_a_lost_node_comes_back_with_its_partitions(tmp_path: Path) -> None:
    code = "import sys, pathlib; from tests.cluster.two_nodes import main"
    with own_ray() as env:
        found = said(program(f"{code}; main(pathlib.Path(sys.argv[1]))", tmp_path, env=env))
    print(found)
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


def test_the_node_with_the_catalogue_is_needed_for_new_things_alone(tmp_path: Path) -> None:
    code = "import sys, pathlib; from tests.cluster.two_nodes import three"
    with own_ray() as env:
        found = said(program(f"{code}; three(pathlib.Path(sys.argv[1]))", tmp_path, env=env))
    print(found)
    assert found["waits"] == ["StoreUnavailable", "StoreUnavailable"]
    assert found["longest_s"] < 6, "rows of known definitions and look-ups wait for nobody"
    assert found["accepted"] == found["events"] > 60
    assert found["verify"] == []
