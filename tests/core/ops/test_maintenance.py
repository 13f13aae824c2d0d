import subprocess
import sys
import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.formats import NOTHING
from core.models import AuditEntry, Lease, MaintenanceRun
from core.ops import maintenance
from core.ops.processes import ProcessIdentity
from core.tasks import run_maintenance

Trigger = MaintenanceRun.Trigger
Status = MaintenanceRun.Status


@pytest.fixture
def jobs(monkeypatch):
    """No job but those of the test."""
    monkeypatch.setattr(maintenance, "_jobs", {})
    return maintenance


@pytest.fixture
def tidy(jobs):
    """A job that takes one of three things away whenever it runs."""
    things = {"things": 3}

    @jobs.job("tidy", "Tidy up", figures=lambda: things, preview=lambda: "It would take one away.")
    def work():
        things["things"] -= 1
        return "Took one away."

    return things


@pytest.mark.django_db
def test_a_run_is_a_row_with_figures_before_and_after(tidy):
    row = maintenance.run("tidy", trigger=Trigger.CONSOLE)
    assert row == MaintenanceRun.objects.get()
    row.refresh_from_db()
    assert (row.job, row.trigger, row.status) == ("tidy", "console", "succeeded")
    assert (row.before, row.after, row.summary) == ({"things": 3}, {"things": 2}, "Took one away.")
    assert row.duration_seconds >= 0
    assert row.error == ""


@pytest.mark.django_db
def test_a_failure_is_a_row_that_tells_why(jobs):
    @jobs.job("broken", "Break", figures=lambda: {"things": 1}, preview=str)
    def work():
        raise ZeroDivisionError("nothing to divide by")

    row = maintenance.run("broken", trigger=Trigger.SCHEDULE)
    row.refresh_from_db()
    assert (row.status, row.error) == (Status.FAILED, "ZeroDivisionError: nothing to divide by")
    assert row.before == {"things": 1}
    assert row.finished_at is not None


@pytest.mark.django_db
def test_a_failure_tells_how_far_the_work_came(jobs):
    things = {"things": 3}

    @jobs.job("broken", "Break", figures=lambda: things, preview=str)
    def work():
        things["things"] -= 1
        raise ZeroDivisionError

    row = maintenance.run("broken", trigger=Trigger.SCHEDULE)
    row.refresh_from_db()
    assert (row.before, row.after) == ({"things": 3}, {"things": 2})


@pytest.mark.django_db
def test_figures_that_cannot_be_taken_are_left_out_and_the_work_is_done(jobs, tidy):
    counts = iter([{"spots": 7}])  # and none after that

    def figures():
        return next(counts)

    jobs.job("wipe", "Wipe", figures=figures, preview=lambda: "It would wipe.")(lambda: "Wiped.")
    text = maintain("--job", "wipe", "--job", "tidy")
    assert "wipe: Wiped." in text
    assert f"spots: 7 -> {NOTHING}" in text
    assert "things: 3 -> 2" in text
    first = MaintenanceRun.objects.get(job="wipe")
    assert (first.status, first.before, first.after, first.error) == (Status.SUCCEEDED, {"spots": 7}, {}, "")
    second = maintenance.run("wipe", trigger=Trigger.SCHEDULE)
    assert (second.status, second.summary, second.before) == (Status.SUCCEEDED, "Wiped.", {})
    assert "wipe: It would wipe." in maintain("--job", "wipe", "--dry-run")


@pytest.mark.django_db
def test_a_failed_job_runs_again(jobs):
    @jobs.job("broken", "Break", figures=dict, preview=str)
    def work():
        raise ZeroDivisionError

    maintenance.run("broken", trigger=Trigger.SCHEDULE)
    assert maintenance.run("broken", trigger=Trigger.SCHEDULE) is not None


@pytest.mark.django_db
def test_an_unknown_job_is_refused(jobs):
    with pytest.raises(maintenance.UnknownJobError):
        maintenance.run("nonsense", trigger=Trigger.CONSOLE)
    assert not MaintenanceRun.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_job_does_not_run_beside_itself(jobs):
    began, may_end = threading.Event(), threading.Event()

    @jobs.job("slow", "Take long", figures=dict, preview=str)
    def work():
        began.set()
        assert may_end.wait(20)
        return "Done."

    def run_it():
        maintenance.run("slow", trigger=Trigger.SCHEDULE)
        connection.close()

    first = threading.Thread(target=run_it)
    first.start()
    assert began.wait(20)
    try:
        assert maintenance.run("slow", trigger=Trigger.CONSOLE) is None
    finally:
        may_end.set()
        first.join()
    assert [row.trigger for row in MaintenanceRun.objects.all()] == ["schedule"]
    assert maintenance.run("slow", trigger=Trigger.CONSOLE).status == Status.SUCCEEDED


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_a_job_that_takes_longer_than_its_lease_does_not_run_beside_itself(jobs, monkeypatch, fake_clock, wait_until):
    monkeypatch.setattr(maintenance, "RENEW_EVERY_SECONDS", 0.01)
    beside = []

    @jobs.job("slow", "Take long", figures=dict, preview=str)
    def work():
        for _ in range(3):
            fake_clock.advance(maintenance.LEASE_SECONDS - 1)
            wait_until(lambda: Lease.objects.get().held_until > fake_clock.now() + timedelta(minutes=1))
        assert maintenance.running("slow") == MaintenanceRun.objects.get()
        beside.append(maintenance.run("slow", trigger=Trigger.CONSOLE))
        return "Done."

    row = maintenance.run("slow", trigger=Trigger.SCHEDULE)
    assert (row.status, row.summary, beside) == (Status.SUCCEEDED, "Done.", [None])
    assert maintenance.running("slow") is None


@pytest.mark.django_db
def test_a_run_that_died_with_its_process_is_closed_and_made_again(tidy):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = str(ProcessIdentity.of(process.pid))
    until = timezone.now() + timedelta(hours=1)
    Lease.objects.create(name="maintenance:tidy", holder=holder, held_until=until)
    died = MaintenanceRun.objects.create(job="tidy", trigger=Trigger.SCHEDULE, started_at=timezone.now())
    assert maintenance.run("tidy", trigger=Trigger.SCHEDULE) is None
    process.kill()
    process.communicate()
    assert maintenance.run("tidy", trigger=Trigger.SCHEDULE).status == Status.SUCCEEDED
    died.refresh_from_db()
    assert (died.status, died.error) == (
        Status.FAILED,
        "The process that ran the job died, or was cut off from the database.",
    )


@pytest.mark.django_db
def test_every_name_of_a_job_fits_its_lease():
    for job in maintenance.jobs():
        assert maintenance.run(job.name, trigger=Trigger.COMMAND) is not None


@pytest.mark.django_db
def test_the_celery_task_runs_the_job_it_names(tidy):
    run_maintenance("tidy")
    assert MaintenanceRun.objects.get().trigger == Trigger.SCHEDULE


@pytest.mark.django_db
def test_a_worker_runs_what_the_console_hands_over(tidy):
    run_maintenance("tidy", "console")
    assert MaintenanceRun.objects.get().trigger == Trigger.CONSOLE
    entry = AuditEntry.objects.get(action="maintenance-run.started")
    assert entry.credential == "console"


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(tidy, jobs):
    jobs.job("wipe", "Wipe", figures=lambda: {"spots": 7}, preview=lambda: "It would wipe.")(lambda: 1 // 0)
    text = maintain("--all", "--dry-run")
    assert "wipe: It would wipe." in text
    assert "spots: 7" in text
    assert "tidy: It would take one away." in text
    assert tidy == {"things": 3}


def test_a_dry_run_that_fails_says_so(jobs):
    jobs.job("broken", "Break", figures=dict, preview=lambda: str(1 // 0))(str)
    assert "broken: It cannot be told: ZeroDivisionError" in maintain("--all", "--dry-run")


@pytest.mark.django_db
@pytest.mark.both_databases
@pytest.mark.parametrize("job", maintenance.jobs(), ids=lambda job: job.name)
def test_every_job_says_what_it_would_do_and_writes_nothing(job):
    with CaptureQueriesContext(connection) as queries:
        assert job.preview().endswith(".")
    beginnings = {query["sql"].split()[0] for query in queries}
    assert beginnings <= {"SELECT", "PRAGMA", "WITH"}


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_latest_run_of_each_job_is_found_in_one_query(jobs, tidy, django_assert_num_queries):
    jobs.job("wipe", "Wipe", figures=dict, preview=str)(str)
    jobs.job("never_run", "Wait", figures=dict, preview=str)(str)
    old = [maintenance.run(name, trigger=Trigger.SCHEDULE) for name in ("wipe", "tidy")]
    new = maintenance.run("tidy", trigger=Trigger.SCHEDULE)
    with django_assert_num_queries(1):
        assert maintenance.latest() == {"wipe": old[0], "tidy": new}


@pytest.mark.django_db
def test_the_celery_task_of_an_unknown_job_returns_quietly(jobs):
    run_maintenance("renamed_since")
    assert not MaintenanceRun.objects.exists()


def maintain(*arguments):
    output, errors = StringIO(), StringIO()
    try:
        call_command("maintain", *arguments, stdout=output, stderr=errors)
    finally:
        text = output.getvalue() + errors.getvalue()
    return text


def test_the_command_lists_the_jobs(tidy):
    assert "tidy" in maintain("--list")
    assert "Tidy up" in maintain("--list")


@pytest.mark.django_db
def test_the_command_runs_what_it_is_told_and_shows_the_figures(tidy):
    text = maintain("--job", "tidy", "--job", "tidy")
    assert "tidy: Took one away." in text
    assert "things: 3 -> 2" in text
    assert "things: 2 -> 1" in text
    assert list(MaintenanceRun.objects.values_list("trigger", flat=True)) == ["command", "command"]


@pytest.mark.django_db
def test_the_command_runs_all(tidy, jobs):
    jobs.job("wipe", "Wipe", figures=dict, preview=str)(lambda: "Wiped.")
    text = maintain("--all")
    assert "Took one away." in text
    assert "Wiped." in text


@pytest.mark.django_db
def test_the_command_fails_when_a_job_does(tidy, jobs):
    jobs.job("broken", "Break", figures=dict, preview=str)(lambda: 1 // 0)
    with pytest.raises(CommandError):
        maintain("--all")
    assert set(MaintenanceRun.objects.values_list("job", "status")) == {("broken", "failed"), ("tidy", "succeeded")}


@pytest.mark.django_db
def test_the_command_names_jobs_that_do_not_exist(tidy):
    with pytest.raises(CommandError, match="nonsense"):
        maintain("--job", "nonsense", "--job", "tidy")
    assert not MaintenanceRun.objects.exists()
