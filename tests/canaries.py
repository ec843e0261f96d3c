"""The secrets that all shared fixtures are given. Each is a canary: what a test logs or prints is searched for it (S34).

The search stands in `conftest.py`; a fixture that runs a process hands over what that has logged (`none_in`).
"""

from base64 import urlsafe_b64encode
from typing import Final

MASTER: Final = "master-token-of-the-tests-0123456789abcdef"
JWT_SECRET: Final = "jwt-secret-of-the-tests-0123456789abcdef"
METRICS_TOKEN: Final = "metrics-token-of-the-tests"
AT_REST_KEY: Final = bytes(range(32))

_FORMS: Final = {
    "the master token": MASTER,
    "the JWT secret": JWT_SECRET,
    "the metrics token": METRICS_TOKEN,
    "the at-rest key": urlsafe_b64encode(AT_REST_KEY).decode().rstrip("="),
    "the at-rest key, in hex": AT_REST_KEY.hex(),
    "the at-rest key, as Python writes it": repr(AT_REST_KEY)[2:40],
}


def met_in(text: str) -> list[str]:
    """Which of them a text holds."""
    return [name for name, form in _FORMS.items() if form in text]


def none_in(text: str) -> None:
    """Raises AssertionError: some are there."""
    if met := met_in(text):
        raise AssertionError(f"a process logged {', '.join(met)}")
