import sys

sys.path.insert(0,"/work/main")
from hypothesis import Phase, settings

import tests.model.test_jobs as t


def test_dev(cluster):
    t._run(cluster, settings(t._UNHURRIED, max_examples=150, stateful_step_count=60, phases=[Phase.generate], database=None))
    print("STEPS", t.JobMachine.steps)

import os

if os.environ.get("MUTATE"):
    from tests.model.reference import Reference, Status
    def _cancel(self, job):
        job.status = Status.CANCELLED
        job.blocked = False
        job.history.append("cancelled")
    Reference._cancel = _cancel


from collections import Counter
COUNTS = Counter()
import tests.model.machine as mm
for name in ("create", "create_child", "create_dead", "retry_dead", "cancel", "complete", "fail", "claim", "retry", "purge", "reap", "expire"):
    pass
_old = mm.Reference.retry_dead
def retry_dead(self, ids, queue, limit):
    out = _old(self, ids, queue, limit)
    COUNTS["revived"] += len(out)
    COUNTS["blocked"] += sum(j.blocked for j in self.jobs.values())
    return out
mm.Reference.retry_dead = retry_dead
for n in ("complete", "fail", "retry", "cancel", "set_priority", "_bury", "_cancel", "_cancel_blocked_children", "create"):
    def wrap(n=n, f=getattr(mm.Reference, n)):
        def inner(self, *a, **k):
            COUNTS[n] += 1
            if n == "create" and len(a) > 3 and a[3]: COUNTS["child"] += 1
            return f(self, *a, **k)
        return inner
    setattr(mm.Reference, n, wrap())
def test_zz():
    print(COUNTS)
