"""Jobs behave as the contract's model, whatever is done to them in whatever order."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Cluster
from tests.model.machine import JobMachine

# Time is PostgreSQL's and the machine's, not the code's: hypothesis must not judge by it.
_UNHURRIED = settings(
    deadline=timedelta(minutes=1),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    print_blob=True,
)


def test_the_engine_does_what_the_model_does(cluster: Cluster) -> None:
    _run(
        cluster, settings(_UNHURRIED, max_examples=3, stateful_step_count=30, derandomize=True, database=None)
    )


@pytest.mark.slow
def test_the_engine_does_what_the_model_does_for_thousands_of_steps(cluster: Cluster) -> None:
    before = JobMachine.steps
    _run(cluster, settings(_UNHURRIED, max_examples=120, stateful_step_count=60))
    assert JobMachine.steps - before > 3_000


def _run(cluster: Cluster, profile: settings) -> None:
    class BoundJobMachine(JobMachine):
        """The machine on the cluster of this run."""

    BoundJobMachine.cluster = cluster
    run_state_machine_as_test(BoundJobMachine, settings=profile)
