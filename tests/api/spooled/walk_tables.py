"""What the walk over all routes says in each of them, and how it is to be answered. Contract: spooled-tenancy 19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from millstream.api.http.endpoint import Auth
from tests.api.spooled.estate import Estate, log_in
from tests.api.spooled.wire import Api, answered

# What stands in the place of a path's parameter: the owner's objects, one call for each. The key is the path up to
# the parameter and the parameter itself; a `word` is everybody's to say: it names an object of the caller's own, or
# none at all.
Kind = Literal["object", "word"]
OBJECTS: dict[str, tuple[Kind, Callable[[Estate], tuple[str, ...]]]] = {
    "/jobs/{job_id}": ("object", lambda owner: owner.jobs),
    "/schedules/{schedule_id}": ("object", lambda owner: (owner.schedule_id,)),
    "/workers/{worker_id}": ("object", lambda owner: (owner.worker_id,)),
    "/queues/{name}": ("word", lambda owner: (owner.queue,)),
    "/webhooks/{organization_id}": ("object", lambda owner: (owner.tenant.organization_id,)),
    "/outgoing-webhooks/{id}": ("object", lambda owner: (owner.webhook_id,)),
    "/outgoing-webhooks/{id}/retry/{delivery_id}": ("object", lambda owner: (owner.delivery_id,)),
    "/outgoing-webhooks/{id}/deliveries/{delivery_id}": ("object", lambda owner: (owner.delivery_id,)),
    "/workflows/{workflow_id}": ("object", lambda owner: (owner.workflow_id,)),
    "/workflows/{workflow_id}/jobs/{job_id}": ("object", lambda owner: (owner.step_id,)),
    "/organizations/{organization_id}": ("object", lambda owner: (owner.tenant.organization_id,)),
    # Anybody may ask whether a slug is free.
    "/organizations/check-slug/{slug}": ("word", lambda owner: (owner.slug,)),
    "/admin/organizations/{organization_id}": ("object", lambda owner: (owner.tenant.organization_id,)),
    "/api-keys/{key_id}": ("object", lambda owner: owner.key_ids),
}


def _webhook_of(caller: Api) -> str:
    body = {"name": "own", "url": "https://example.com/own", "events": ["schedule.triggered"]}
    return answered(caller.post("/outgoing-webhooks", {**body, "enabled": False}), 201)["id"]


def _workflow_of(caller: Api) -> str:
    body = {"name": "own", "jobs": [{"key": "a", "queue_name": "own", "payload": {}}]}
    return answered(caller.post("/workflows", body), 201)["id"]


# Where an object stands below another one: how the caller gets one of its own to ask for the owner's below it (C4).
OWN_PARENTS: dict[str, Callable[[Api], str]] = {
    "/workflows/{workflow_id}": _workflow_of,
    "/outgoing-webhooks/{id}": _webhook_of,
}

# What fields of bodies and queries say, wherever they stand: the owner's again, where there is such a thing.
FIELDS: dict[str, Callable[[Estate], object]] = {
    "billing_email": lambda owner: owner.email,
    "code": lambda _: "000000",
    "confirm": lambda _: True,
    "created": lambda _: 1,
    "cron_expression": lambda _: "0 0 1 1 *",
    "current_jobs": lambda _: 1,
    "data": lambda _: {"object": {}},
    "default_timeout": lambda _: 60,
    "depends_on": lambda owner: list(owner.jobs),
    "description": lambda _: "walked over",
    "email": lambda owner: owner.email,
    "error": lambda _: "e",
    "events": lambda _: ["schedule.triggered"],
    "hard_delete": lambda _: "true",
    "hostname": lambda _: "h",
    "id": lambda owner: owner.running["id"],
    "ids": lambda owner: ",".join(owner.jobs),
    "is_active": lambda _: False,
    "items": lambda owner: [
        {"action": action, "job_id": job, "lease_id": owner.running["lease_id"], "error": "e"}
        for job in owner.jobs
        for action in ("complete", "fail")
    ],
    "job_ids": lambda owner: list(owner.jobs),
    # Of a bulk, and of a workflow.
    "jobs": lambda owner: [{"payload": 1, "key": "k", "queue_name": owner.queue}],
    "lease_id": lambda owner: owner.running["lease_id"],
    "name": lambda _: "A walker",
    "parent_job_id": lambda owner: owner.jobs[0],
    "payload": lambda _: {},
    "payload_template": lambda owner: {"of": owner.mark},
    "plan_tier": lambda _: "enterprise",
    "priority": lambda _: 9,
    "q": lambda owner: owner.mark,
    "queue_name": lambda owner: owner.queue,
    "queues": lambda owner: [owner.queue],
    "refresh_token": lambda owner: owner.refresh_token,
    "return_url": lambda _: "https://example.com/account",
    "search": lambda owner: owner.mark,
    "secret": lambda _: "known to the walker",
    "signup_token": lambda owner: owner.refresh_token,
    "slug": lambda owner: owner.slug,
    "tag": lambda owner: owner.mark,
    "type": lambda _: "t",
    "url": lambda _: "https://example.com/walker",
    "worker_id": lambda owner: owner.worker_id,
}

# Fields that are a credential in themselves say the caller's own, or its bearer would be the owner: it is the
# credential that decides, whoever the rest of the request claims to be (C13).
OWN_CREDENTIALS: dict[str, dict[str, Callable[[Api], object]]] = {
    "POST /auth/login": {"api_key": lambda caller: caller.api_key},
    "POST /auth/refresh": {"refresh_token": lambda caller: log_in(caller)["refresh_token"]},
    "POST /auth/validate": {"token": lambda caller: log_in(caller)["access_token"]},
}

# Called with an access token of the caller's: an API key does not open these (5.4, 5.5).
TOKEN_ROUTES = {"GET /auth/me", "POST /auth/logout"}

# Sign-in by e-mail: a server without a mail server, as the one that is walked over, does not have it (5.7).
MAIL_ROUTES = {
    "POST /auth/email/start",
    "POST /auth/email/verify",
    "POST /auth/signup/complete",
    "GET /auth/check-email",
    "GET /auth/email/check",
    "POST /auth/email/check",
}

# Without a word here: a foreign object is 404, what names no object succeeds.
STATUSES: dict[str, set[int]] = {
    # The parent is another organization's: nothing is linked (C17).
    "POST /jobs": {400},
    # Unknown and foreign are one answer (ruling R4).
    "POST /jobs/{job_id}/retry": {409},
    # Ids of workers are unique over all organizations (ruling R8).
    "POST /workers/register": {409},
    # The caller's own queue of that name, which may not be there (C7).
    "GET /queues/{name}": {404},
    "DELETE /queues/{name}": {404},
    "POST /queues/{name}/resume": {200, 404},
    "GET /queues/{name}/stats": {200},
    # Slugs are unique over all organizations (3.1).
    "POST /organizations": {409},
    # Nobody's token can be cleared (3.10).
    "POST /organizations/webhook-token/clear": {404},
    # Nothing is billed (9).
    "POST /billing/portal": {400},
    **{key: {404} for key in MAIL_ROUTES},
}
# Who may call, where an API key is not what opens the door: a foreign key does not either.
STATUS_BY_ACCESS: dict[Auth, set[int] | None] = {
    Auth.BEARER: None,
    Auth.OPEN: None,
    Auth.REGISTRATION: None,
    # The key of a tenant administers nothing, wherever it is presented (19.2 B3).
    Auth.ADMIN: {401},
    # The caller's own webhook token opens its own organization only.
    Auth.WEBHOOK: {401},
}
