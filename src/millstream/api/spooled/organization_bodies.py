"""The bodies of `/organizations` beside its creation. Contract: spooled-tenancy 2.1, 3."""

from msgspec import UNSET, Struct

from millstream.api.spooled.requests import Opaque


class UpdateOrganization(Struct, frozen=True, kw_only=True):
    """`PUT /organizations/{id}`."""

    name: str | None = None
    billing_email: str | None = None
    description: str | None = None
    settings: Opaque = UNSET


class OrganizationSummary(Struct):
    """An organization in a list."""

    id: str
    name: str
    slug: str
    plan_tier: str
    created_at: str


class SlugChecked(Struct, kw_only=True):
    """The answer to a question about a slug; `error` says why it is not valid, `suggestion` is one to take instead."""

    available: bool
    valid: bool
    error: str | None
    suggestion: str | None
    slug: str
    message: str


class GenerateSlug(Struct, frozen=True, kw_only=True):
    """`POST /organizations/generate-slug`."""

    name: str


class SlugGenerated(Struct):
    """A slug that was valid and free a moment ago."""

    slug: str


class WebhookToken(Struct):
    """The token of incoming webhooks, under the names of two generations of clients, and where they go."""

    webhook_token: str | None
    token: str | None
    webhook_url: str
