"""The table of security cases, row by row, and the tests that prove them. Contract: spooled-tenancy 19."""

from tests.security.access_cases import (
    ADMINISTRATION_CASES,
    AUTHENTICATION_CASES,
    ISOLATION_CASES,
    SCOPE_CASES,
)
from tests.security.input_cases import MALFORMED_CASES, PLAN_CASES, SIZE_CASES
from tests.security.webhook_cases import DISCLOSURE_CASES, WEBHOOK_CASES

# How many rows each group of the contract has.
ROWS = {"A": 18, "B": 9, "C": 18, "D": 6, "E": 19, "F": 11, "G": 12, "H": 23, "I": 10}

CASES = [
    *AUTHENTICATION_CASES,
    *ADMINISTRATION_CASES,
    *ISOLATION_CASES,
    *SCOPE_CASES,
    *MALFORMED_CASES,
    *SIZE_CASES,
    *PLAN_CASES,
    *WEBHOOK_CASES,
    *DISCLOSURE_CASES,
]
