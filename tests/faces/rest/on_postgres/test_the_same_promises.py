"""The contract, repeats, lists and isolation again, with PostgreSQL underneath: what a caller sees does not depend on the store."""

# ruff: noqa: F403
from tests.faces.rest.test_decision_table import *
from tests.faces.rest.test_lists import *
from tests.faces.rest.test_repeats import *
from tests.faces.rest.test_the_seeds_contract import *
from tests.faces.rest.test_two_tenants import *
