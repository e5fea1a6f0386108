"""The port of metrics: what it answers, and what it refuses."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from profile_actors.driver.starting.metrics_port import MetricsPort
from profile_actors.errors import ConfigError, StoreUnavailable
from tests.waiting import PATIENCE_S


def asked(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_page_is_made_for_each_question_and_a_store_that_is_away_is_said() -> None:
    pages = iter(["a 1\n", "a 2\n"])

    def page() -> str:
        for text in pages:
            return text
        raise StoreUnavailable("expected an answer, got none - at partition 1; wait")

    port = MetricsPort(0)
    try:
        assert port.url.startswith("http://127.0.0.1:")
        assert port.answer("/metrics") == (503, "the store is being opened\n")
        port.serve(page)
        assert asked(port.url) == (200, "a 1\n")
        assert asked(port.url + "?name=x") == (200, "a 2\n")
        assert asked(port.url)[0] == 503
        assert asked(port.url.replace("/metrics", "/etc/passwd")) == (404, "expected /metrics\n")
    finally:
        port.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(port.url, timeout=PATIENCE_S)


def test_a_port_that_is_taken_is_said() -> None:
    port = MetricsPort(0)
    number = int(port.url.split(":")[2].split("/")[0])
    try:
        with pytest.raises(ConfigError, match=f"expected a free port for metrics .* got {number}"):
            MetricsPort(number)
    finally:
        port.close()
