import pytest

from core.net import places
from core.net.calls import Target
from core.ops.pools import Publisher
from tests.api import ApiClient, assert_problem
from tests.factories import make_operator, make_user

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/api/v1/pools", "/api/v1/pools/"])
def test_operators_see_how_full_the_pools_are(path):
    here = Target("http", "here", 80)
    places.places("ollama").take(here, 0)
    try:
        Publisher("web").publish()
    finally:
        places.places("ollama").give(here)
    answer = ApiClient(make_operator()).get(path)
    assert answer.status_code == 200
    body = answer.json()
    assert body["http_requests"] >= 1
    assert body["db_queries"] >= 1
    assert set(body) == {"http_requests", "db_queries", "redis_operations", "connection_errors", "pools"}
    pool = next(pool for pool in body["pools"] if pool["name"] == "ollama")
    (process,) = [process for process in pool["processes"] if process["process"] == "web"]
    assert (process["limit"], process["in_use"], process["waiting"]) == (1024, 1, 0)
    assert pool["utilisation"] == pytest.approx(1 / 1024, abs=1e-4)


def test_nobody_else_sees_them(client):
    assert_problem(client.get("/api/v1/pools/"), 401, "not-authenticated")
    assert_problem(ApiClient(make_user()).get("/api/v1/pools/"), 403, "not-permitted")
    assert ApiClient(make_operator()).post("/api/v1/pools/", {}).status_code == 405


def test_the_database_is_not_asked_for_them(django_assert_max_num_queries):
    api = ApiClient(make_operator())
    api.get("/api/v1/pools/")
    with django_assert_max_num_queries(3):  # who asks, and their limits
        api.get("/api/v1/pools/")
