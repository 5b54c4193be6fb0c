import sys
sys.path.insert(0,"/work/main")
from hypothesis import settings, Phase
import tests.model.test_jobs as t
import pytest
def test_dev(cluster):
    t._run(cluster, settings(t._UNHURRIED, max_examples=100, stateful_step_count=60, phases=[Phase.generate], database=None))
    print("STEPS", t.JobMachine.steps)
