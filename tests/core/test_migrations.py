from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

from tests.factories import make_user

sign_in = import_module("core.migrations.0005_sign_in")


@pytest.mark.django_db
def test_a_shared_email_address_stops_the_migration_with_names(monkeypatch):
    make_user(username="ada", email="ada@example.com")
    sign_in.refuse_shared_email_addresses(apps, connection.schema_editor())

    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX one_person_per_email")
    make_user(username="other", email="ADA@example.com")
    with pytest.raises(RuntimeError, match=r"ada@example.com \(ada, other\)"):
        sign_in.refuse_shared_email_addresses(apps, connection.schema_editor())
