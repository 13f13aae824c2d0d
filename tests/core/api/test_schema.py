import io

import pytest
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from tests.api import ApiClient
from tests.factories import make_user


@pytest.fixture(scope="module")
def document():
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(document):
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def test_the_document_is_valid_and_complete():
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=io.StringIO())


def test_every_operation_says_what_it_does_and_how_it_fails(document):
    assert len(operations(document)) > 25
    for operation in operations(document):
        assert operation.get("description") or operation["operationId"] == "chat", operation["operationId"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]


def test_every_creating_post_offers_an_idempotency_key(document):
    creating = ["agents", "agents/{agent_pk}/versions", "nodes", "sessions", "tasks", "tasks/{id}/retry", "chat"]
    for path in creating:
        names = [parameter["name"] for parameter in document["paths"][f"/api/v1/{path}/"]["post"]["parameters"]]
        assert "Idempotency-Key" in names, path


def test_lists_offer_pages_orders_and_search(document):
    lists = [operation for operation in operations(document) if operation["operationId"].endswith("_list")]
    assert len(lists) == 10
    for operation in lists:
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert {"cursor", "page_size", "ordering", "search"} <= names, operation["operationId"]


def test_both_ways_to_sign_in_are_named(document):
    assert document["components"]["securitySchemes"].keys() == {"bearer", "browser"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/schema", "/api/schema/"])
def test_the_document_is_for_people_and_programs_that_signed_in(path):
    assert Client().get(path).status_code == 401
    assert ApiClient(make_user()).get(path).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_pages_send_strangers_to_sign_in_and_need_no_other_host(path):
    client = Client()
    assert client.get(path)["Location"].startswith("/login?")
    client.force_login(make_user())
    page = client.get(path)
    assert page.status_code == 200
    assert b"swagger-ui" in page.content
    assert b"http://" not in page.content.replace(b"http://www.w3.org/", b"")
    assert b"https://" not in page.content
