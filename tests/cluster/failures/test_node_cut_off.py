"""A node loses its network for a minute, and comes back with everything that ran on it."""

from __future__ import annotations

import pytest
from tests.cluster.failures.conftest import Load
from tests.cluster.failures.lost_node import lose_a_node
from tests.cluster.support.faults import needs_faults, node_cut


@pytest.mark.slow  # the gate has the node that crashes
@needs_faults
def test_lobbies_are_made_elsewhere_and_clients_of_the_other_greeter_stay(load: Load) -> None:
    lose_a_node(load, "node cut off", node_cut)
