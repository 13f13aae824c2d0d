"""What runs by itself, and how often.

Each entry becomes a row once, which operators edit in the console from then on: see `core.ops.schedules`. What must
never wait for a broker or for beat (leases, deadlines, retries) is no schedule but the caretaker's:
`agents/engine/caretaker.py`.

One beat sends, and any other stands by (`core.ops.beat`). Should a job be sent twice nevertheless, it never runs
beside itself, and running it again soon finds nothing to do.
"""

from datetime import timedelta

# Maintenance job -> how often it runs. Intervals instead of times of day: a machine that was off catches up.
MAINTENANCE = {
    "refresh_models": timedelta(minutes=1),  # a node that went down, or a model that was pulled, is seen within that
    "evaluate_alerts": timedelta(minutes=5),  # they are looked at every 15 seconds; this sees that somebody does
    "close_idle_chat_sessions": timedelta(minutes=10),
    "delete_sign_in_sessions": timedelta(hours=1),
    "delete_idempotency_records": timedelta(hours=1),
    "sign_audit_checkpoint": timedelta(hours=1),
    "verify_audit_log": timedelta(days=1),
    "remove_old_audit_entries": timedelta(days=1),
    "delete_spent_limits": timedelta(hours=1),
    "delete_old_health": timedelta(days=1),
    "delete_lost_processes": timedelta(days=1),
    "delete_token_families": timedelta(hours=1),
    "send_due_emails": timedelta(minutes=5),
    "send_due_webhooks": timedelta(minutes=1),
    "delete_read_notifications": timedelta(days=1),
    "delete_webhook_deliveries": timedelta(days=1),
    "delete_resolved_alerts": timedelta(days=1),
    "sweep_cache": timedelta(hours=1),
    "warm_cache": timedelta(hours=1),
    "join_old_events": timedelta(days=1),
    "delete_old_tasks": timedelta(days=1),
    "delete_queue_shares": timedelta(days=1),
    "delete_maintenance_runs": timedelta(days=1),
    "delete_slow_queries": timedelta(days=1),
    "free_database_pages": timedelta(hours=1),
    "vacuum_database": timedelta(days=1),
    "check_database": timedelta(days=7),
    "back_up": timedelta(days=1),
    "drill_backup": timedelta(days=7),
}
