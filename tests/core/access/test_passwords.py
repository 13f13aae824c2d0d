import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher

from core.access.passwords import PasswordHasher
from tests.factories import make_user


@pytest.mark.django_db
def test_a_hash_of_another_cost_is_made_anew_at_the_next_sign_in(settings):
    settings.PASSWORD_HASHERS = ["core.access.passwords.PasswordHasher"]
    user = make_user()
    user.password = Argon2PasswordHasher().encode("right-horse-battery", "salt-of-sixteen-characters")
    assert user.check_password("right-horse-battery")
    user.refresh_from_db()
    assert "m=19456,t=2,p=1" in user.password
    assert user.check_password("right-horse-battery")
    assert not PasswordHasher().must_update(user.password)
