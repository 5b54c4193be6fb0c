"""Deliveries behave as the contract's model, whatever is done to them in whatever order."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Cluster
from tests.model.delivery_machine import DeliveryMachine

# Time is PostgreSQL's and the machine's, not the code's: hypothesis must not judge by it.
_UNHURRIED = settings(
    deadline=timedelta(minutes=1),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    print_blob=True,
)


def test_deliveries_go_as_the_model_does(cluster: Cluster) -> None:
    _run(
        cluster, settings(_UNHURRIED, max_examples=5, stateful_step_count=30, derandomize=True, database=None)
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_deliveries_go_as_the_model_does_for_thousands_of_steps(cluster: Cluster) -> None:
    before = DeliveryMachine.steps
    _run(
        cluster,
        settings(_UNHURRIED, max_examples=60, stateful_step_count=60, database=None),
    )
    assert DeliveryMachine.steps - before > 2_000


def _run(cluster: Cluster, profile: settings) -> None:
    class BoundDeliveryMachine(DeliveryMachine):
        """The machine on the cluster of this run."""

    BoundDeliveryMachine.cluster = cluster
    run_state_machine_as_test(BoundDeliveryMachine, settings=profile)
