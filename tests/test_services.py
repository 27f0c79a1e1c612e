"""A service that can't be had: a skip that says what to install, or a failure where services are required."""

import pytest

from tests.services import NoServiceError, unavailable

REASON = NoServiceError("no redis-server: apt-get install redis-server")


@pytest.mark.parametrize(("required", "outcome"), [(None, "Skipped"), ("0", "Skipped"), ("1", "Failed")])
def test_a_missing_service_skips_or_fails_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, required: str | None, outcome: str
) -> None:
    monkeypatch.delenv("MLMM_REQUIRE_SERVICES", raising=False)
    if required is not None:
        monkeypatch.setenv("MLMM_REQUIRE_SERVICES", required)
    with pytest.raises(BaseException, match="apt-get install redis-server") as caught:
        unavailable(REASON)
    assert type(caught.value).__name__ == outcome
