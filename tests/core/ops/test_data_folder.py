import os

import pytest
from django.core.management import call_command

from core.ops import data_folder


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path


def test_it_has_one_owner_at_a_time():
    with data_folder.owned("Stop it."), pytest.raises(SystemExit, match=r"runs on .* already\. Stop it\."):
        data_folder.owned("Stop it.")
    data_folder.owned("Stop it.").close()


def test_the_process_of_its_group_is_known_while_it_runs():
    assert data_folder.group() is None
    with data_folder.owned("", by_group=True):
        assert data_folder.group() == os.getpid()
    assert data_folder.group() is None


def test_a_command_that_owns_it_is_no_group():
    with data_folder.owned("", by_group=True):
        pass
    with data_folder.owned(""):
        assert data_folder.group() is None


def test_nothing_is_restarted_where_no_group_runs():
    with pytest.raises(SystemExit, match="No group runs here"):
        call_command("restart")
