"""How a row of the table of security cases is written."""

from msgspec import Struct


class Case(Struct, frozen=True, kw_only=True):
    """A row: what is tried, and the tests that try it; `later` names what is not there yet, and so not tried."""

    id: str
    what: str
    tests: tuple[str, ...]
    later: str


def case(case_id: str, what: str, *tests: tuple[str, ...], later: str = "") -> Case:
    """Make a row of the tests of several files."""
    return Case(id=case_id, what=what, tests=tuple(name for file in tests for name in file), later=later)


class File:
    """A file of tests; called with names of its tests, it tells where they are."""

    def __init__(self, path: str) -> None:
        self._path = f"tests/{path}.py"

    def __call__(self, *names: str) -> tuple[str, ...]:
        """Return the names as a test runner takes them."""
        return tuple(f"{self._path}::{name}" for name in names)


ABSENT_REDIS = File("rate_limits/test_absent_redis")
ADMIN = File("api/spooled/test_admin")
ADMIN_ORGANIZATIONS = File("api/spooled/test_admin_organizations")
API_KEYS = File("api/spooled/test_api_keys")
AUTHENTICATION = File("api/spooled/test_authentication")
BAD_FIELDS = File("api/test_bad_fields")
BAD_JSON = File("api/test_bad_json")
BAD_TARGETS = File("api/test_bad_targets")
BATCHES = File("api/spooled/test_job_bulk")
BODY_SIZES = File("api/test_body_sizes")
CATALOGUE = File("store/test_catalogue")
CLAIMS = File("api/spooled/test_job_claims")
CLIENTS = File("api/http/test_clients")
CHAOS = File("chaos/test_killed_database")
CONNECTIONS = File("serving/test_http_protocol")
CONTROL = File("api/spooled/test_job_control")
CREATION = File("api/spooled/test_job_creation")
DEPENDENCIES = File("engine/test_dependencies")
DEAD_LETTERS = File("api/spooled/test_dead_letters")
HEADERS = File("api/spooled/test_response_headers")
HEADS = File("api/test_request_heads")
HEALTH = File("api/spooled/test_health_endpoints")
INGEST = File("api/spooled/test_ingest")
INGEST_SECURITY = File("api/spooled/test_ingest_security")
INJECTION = File("api/test_security_cases")
ISOLATION = File("api/spooled/test_isolation")
ORGANIZATIONS = File("api/spooled/test_organizations")
OUTBOUND = File("outbound/test_client")
OUTGOING = File("api/spooled/test_outgoing_webhooks")
OWN_ORGANIZATION = File("api/spooled/test_own_organization")
PLAN_LIMITS = File("api/spooled/test_plan_limits")
PRODUCTION = File("cli/test_production")
PROVIDERS = File("cli/test_incoming_webhooks")
QUEUES = File("api/spooled/test_queue_endpoints")
QUEUE_SCOPE = File("api/spooled/test_queue_scope")
QUOTAS = File("engine/test_quotas")
READING = File("api/spooled/test_job_reading")
REDACTION = File("observe/test_redaction")
RELAY = File("engine/test_relay")
REQUEST_LIMITS = File("rate_limits/test_request_limits")
ROUTING = File("api/spooled/test_routing")
SCHEDULES = File("api/spooled/test_schedule_endpoints")
SETTLEMENT = File("api/spooled/test_job_settlement")
SHARED_LIMITS = File("rate_limits/test_shared_limits")
TENANT_ISOLATION = File("api/spooled/test_tenant_isolation")
TOKENS = File("api/spooled/test_tokens")
SETTINGS = File("config/test_variables")
SUBSCRIPTIONS = File("engine/test_outgoing_webhooks")
TOKEN_RULES = File("engine/test_tokens")
USAGE = File("api/spooled/test_usage")
WORKERS = File("api/spooled/test_worker_endpoints")
WORKFLOW_CLIENT = File("clients/spooled/test_client_workflows")
WORKFLOWS = File("engine/test_workflows")

CREDENTIALS = File("security/test_authentication")
COMPARISONS = File("security/test_comparisons")
INPUT = File("security/test_input")
LIMITS = File("security/test_limits")
STARTS = File("security/test_starts")
WEBHOOKS = File("security/test_webhooks")
WRITTEN_LOG = File("security/test_written_log")
