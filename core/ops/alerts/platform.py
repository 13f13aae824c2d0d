"""The platform's own alerts."""

from datetime import timedelta

from core.models import Alert
from core.ops.alerts.expressions import (
    INSTANCE,
    Both,
    Compared,
    Either,
    Increase,
    Latest,
    Metric,
    Missing,
    Quantile,
    Ratio,
)
from core.ops.alerts.rules import Rule, Unit, register

CRITICAL, WARNING = Alert.Severity.CRITICAL, Alert.Severity.WARNING
AT_ONCE = timedelta(0)
_HEALTH_UP = Metric("sutazai_health_up")

# A handful of requests at night are no measure of anything.
MIN_REQUESTS = 20

# Asked for by programs and open pages, ours among them, every few seconds: that these are well says nothing of the
# others. Health has alerts of its own.
_POLLS = ("endpoint", "health|health-ready|metrics|panel-unread-notifications|static")
# What waits for a model is asked for by POST. How long that takes is the queue's and the model's affair. Which routes
# these are is known only where each of them is answered, so all of that method are left out.
_QUICK = (_POLLS, ("method", "POST"))
_ANSWER_TIMES = Increase(Metric("api_request_duration_seconds_bucket", unlike=_QUICK), by=("le",))
_QUICK_REQUESTS = Increase(Metric("api_request_duration_seconds_count", unlike=_QUICK))
_REQUESTS = Increase(Metric("api_request_total", unlike=(_POLLS,)))
# Also of answers that were begun with status 200 and broke off.
_SERVER_ERRORS = Increase(Metric("api_errors_total", like=(("fault", "server"),), unlike=(_POLLS,)))

register(
    Rule(
        name="APIResponseSlow",
        title="Answers are slow",
        watches=f"What 95 % of the answers of 5 minutes do not exceed, where there were more than {MIN_REQUESTS}."
        " Requests by POST do not count, for they may wait for a model; nor do health, metrics, static files and the"
        " bell.",
        condition=Both(Compared(Quantile(0.95, _ANSWER_TIMES), ">", 5), Compared(_QUICK_REQUESTS, ">", MIN_REQUESTS)),
        holds_for=timedelta(minutes=1),
        severity=WARNING,
        unit=Unit.SECONDS,
        why="People wait for pages and lists that need no model.",
        help="Look at the pools first: where one is full, requests wait for it. Then look for a machine that is short"
        " of processors or memory, and for a database that is: statements that take long, a disk that is slow. If"
        " the load has simply grown, run more web processes (SUTAZAI_WEB_PROCESSES), with PostgreSQL.",
        page="console-pools",
    )
)
register(
    Rule(
        name="APIErrorsHigh",
        title="Many requests fail",
        watches="The share of the requests of 5 minutes that failed by this server's fault (status 500 and above, or"
        f" an answer that broke off), where there were more than {MIN_REQUESTS}. Requests for health, metrics, static"
        " files and the bell do not count.",
        condition=Both(Compared(Ratio(_SERVER_ERRORS, _REQUESTS), ">", 0.05), Compared(_REQUESTS, ">", MIN_REQUESTS)),
        holds_for=timedelta(minutes=1),
        severity=CRITICAL,
        unit=Unit.SHARE,
        why="Programs and people get errors instead of answers.",
        help="Read the log of the web process: each error stands there with its request's id, but for those that were"
        " refused because the server is busy. Status 503 means that something is away, or that too much is asked: look"
        " at the dashboard's table of the platform, at the breakers and at the pools. Tasks that were accepted are not"
        " lost.",
        page="admin:index",
    )
)
register(
    Rule(
        name="PoolNearlyFull",
        title="The pool {pool} of {process} is nearly full",
        watches="The share of a pool that a process uses.",
        condition=Compared(Latest(Metric("sutazai_pool_utilisation"), by=(INSTANCE, "pool", "process")), ">", 0.8),
        holds_for=timedelta(minutes=1),
        severity=WARNING,
        unit=Unit.SHARE,
        why="When it is full, who comes waits for some seconds and then fails.",
        help="The page of the pools says for each of them what to look at first, and which setting makes it larger.",
        page="console-pools",
    )
)
register(
    Rule(
        name="ActiveSessionsHigh",
        title="Unusually many people are signed in",
        watches="Sign-in sessions that have not expired.",
        condition=Compared(Latest(Metric("sutazai_sign_in_sessions")), ">", 1000),
        holds_for=timedelta(minutes=5),
        severity=WARNING,
        unit=Unit.COUNT,
        why="Either many people came, or a program signs in again and again instead of keeping its session.",
        help="Look in the list of devices for one person with very many sign-ins. A program should use an API key."
        " Old sessions are deleted by the job delete_sign_in_sessions; run it now if its last run failed.",
        page="admin:core_device_changelist",
    )
)
register(
    Rule(
        name="APIHealthEndpointDown",
        title="The web process does not answer",
        watches="/health answers.",
        condition=Either(
            (
                Compared(Latest(_HEALTH_UP, by=(INSTANCE,)), "==", 0),
                Missing(_HEALTH_UP),
                # Only the host whose process watches asks for /health. Of the others Prometheus knows itself.
                Compared(Latest(Metric("up", like=(("job", "sutazai"),)), by=(INSTANCE,)), "==", 0),
            )
        ),
        holds_for=timedelta(minutes=1),
        severity=CRITICAL,
        unit=Unit.TRUTH,
        why="Nobody reaches the API, the console or the pages. Workers go on with what was accepted.",
        help="See whether the group runs; `manage.py up` starts a web process again that died. If it runs, it hangs or"
        " listens elsewhere than SUTAZAI_HOST and SUTAZAI_PORT say: read the end of its log, then restart it. Nothing"
        " that was accepted is lost by that.",
        page="admin:index",
    )
)
register(
    Rule(
        name="APIResponseTimeSlow",
        title="/health answers slowly",
        watches="How long /health takes, which asks nobody.",
        condition=Compared(Latest(Metric("sutazai_health_seconds"), by=(INSTANCE,)), ">", 1),
        holds_for=timedelta(minutes=2),
        severity=WARNING,
        unit=Unit.SECONDS,
        why="It is answered from memory, so the web process itself, or its machine, is overloaded.",
        help="Look for what takes the machine's processors, and whether it swaps. Streams and requests slow down with"
        " it: give the machine to SutazAI alone, or move the workers to another one.",
        page="admin:index",
    )
)
register(
    Rule(
        name="APIDependencyMissing",
        title="The part “{dependency}” is away",
        watches="Each part that SutazAI depends on works.",
        condition=Compared(Latest(Metric("api_dependency_status"), by=(INSTANCE, "dependency")), "==", 0),
        holds_for=timedelta(minutes=5),
        severity=CRITICAL,
        unit=Unit.TRUTH,
        why="SutazAI works around it where it can: tasks are accepted and wait, or run later than usual.",
        help="The page of health says how it was found, and what to do. Start it again, or see whether its address in"
        " the settings still holds and the network lets us through. Nothing has to be restarted here afterwards.",
        page="console-health",
    )
)
register(
    Rule(
        name="DiskNearlyFull",
        title="The disk is nearly full: {folder}",
        watches="The free share of each disk that holds the data, the backups or the archive of the audit log.",
        condition=Compared(
            Ratio(
                Latest(Metric("sutazai_disk_free_bytes"), by=(INSTANCE, "folder")),
                Latest(Metric("sutazai_disk_size_bytes"), by=(INSTANCE, "folder")),
            ),
            "<",
            0.1,
        ),
        holds_for=timedelta(minutes=5),
        severity=CRITICAL,
        unit=Unit.SHARE,
        why="Where the data are (data), nothing can be accepted without room, and answers that are under way cannot be"
        " kept. Without room for backups or for the archive of the audit log (backups, audit), none is made.",
        help="Make room: move old backups and archives of the audit log to another machine, and delete what other"
        " programs left. For the data, then run the jobs that delete old rows, and vacuum_database last, which gives"
        " their room back.",
        page="admin:core_maintenancerun_changelist",
    )
)
register(
    Rule(
        name="AuditChainBroken",
        title="The audit log does not hold",
        watches="The last check of the audit log found no damage.",
        condition=Compared(Latest(Metric("sutazai_audit_log_intact")), "==", 0),
        holds_for=AT_ONCE,
        severity=CRITICAL,
        unit=Unit.TRUTH,
        why="Somebody altered, removed or moved entries, or the key that seals them is another one.",
        help="See first whether SUTAZAI_AUDIT_KEY was changed: put the old one back. Otherwise keep a copy of the"
        " database as it is, run `manage.py audit verify`, which names the first entry that is wrong, and compare with"
        " the signed checkpoints and backups that you keep elsewhere.",
        page="admin:core_auditentry_changelist",
    )
)
register(
    Rule(
        name="AuditFailing",
        title="The audit log fails: {what}",
        watches="No check of the last 5 minutes by the group found the audit log damaged (damaged), and no refusal"
        " was lost instead of being written down (not-written).",
        condition=Compared(
            Increase(Metric("sutazai_audit_failures_total", like=(("what", "damaged|not-written"),)), by=("what",)),
            ">",
            0,
        ),
        holds_for=AT_ONCE,
        severity=CRITICAL,
        unit=Unit.COUNT,
        why="What somebody did or tried may not be provable. It is over when it has not happened for 5 minutes, which"
        " mends nothing that was damaged or lost.",
        help="Damaged: run verify_audit_log, so that AuditChainBroken tells of it until it is mended, and do what that"
        " alert says. Not written: read the log of the web process, which tells what could not be written and why;"
        " most often the database was away, or its disk full.",
        page="admin:core_auditentry_changelist",
    )
)
register(
    Rule(
        name="DatabaseDamaged",
        title="The database is damaged",
        watches="The last check of the database found no damage.",
        condition=Compared(Latest(Metric("sutazai_database_intact")), "==", 0),
        holds_for=AT_ONCE,
        severity=CRITICAL,
        unit=Unit.TRUTH,
        why="What is damaged may be read wrongly, and damage spreads into the backups that are made from now on.",
        help="The last run of check_database says what does not hold. Keep a copy of the database as it is, copy the"
        " newest backups elsewhere, before they are removed for their age, and look at the disk and the memory of its"
        " machine. An index alone is made anew by REINDEX; else restore the newest backup that passes its drill.",
        page="admin:core_maintenancerun_changelist",
    )
)
register(
    Rule(
        name="BackupTooOld",
        title="The newest backup is too old",
        watches="The age of the newest good backup; where there is none, of the first account.",
        condition=Compared(
            Latest(Metric("sutazai_backup_age_seconds")), ">", Metric("sutazai_backup_max_age_seconds")
        ),
        holds_for=timedelta(minutes=5),
        severity=CRITICAL,
        unit=Unit.AGE,
        why="What was done since then would be lost with the disk.",
        help="See why the last backup failed, and whether its schedule is enabled and the worker lives. Then make one"
        " by hand: Backups, Back up now. Where backups are made less often than each day on purpose, raise"
        " SUTAZAI_BACKUP_MAX_AGE_HOURS.",
        page="admin:core_backup_changelist",
    )
)
