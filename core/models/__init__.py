"""What the platform stores."""

from core.models.alert import Alert, AlertSilence, alert_about
from core.models.api_key import ApiKey
from core.models.audit import AppendOnlyError, AuditBeginning, AuditCheckpoint, AuditEntry, SignedPlace
from core.models.backup import Backup
from core.models.base import UUIDModel, uuid7
from core.models.breaker import CircuitBreaker, CircuitBreakerChange, GuardedModel
from core.models.cache import CacheEntry, CacheGeneration, CacheInvalidation, CacheUse
from core.models.device import Device, KnownDevice
from core.models.health import HealthChange
from core.models.idempotency import IdempotencyRecord
from core.models.invitation import Invitation
from core.models.lease import Lease
from core.models.limits import Allowance, LimitWindow, TokenUse
from core.models.maintenance_run import MaintenanceRun
from core.models.notification import Notification, NotificationPreference
from core.models.process import Process
from core.models.roles import Role, Verb
from core.models.slow_query import SlowQuery
from core.models.token import SigningKey, TokenFamily
from core.models.user import DEFAULT_TEAM_ID, Team, User
from core.models.webhook import Webhook, WebhookDelivery

__all__ = [
    "DEFAULT_TEAM_ID",
    "Alert",
    "AlertSilence",
    "Allowance",
    "ApiKey",
    "AppendOnlyError",
    "AuditBeginning",
    "AuditCheckpoint",
    "AuditEntry",
    "Backup",
    "CacheEntry",
    "CacheGeneration",
    "CacheInvalidation",
    "CacheUse",
    "CircuitBreaker",
    "CircuitBreakerChange",
    "Device",
    "GuardedModel",
    "HealthChange",
    "IdempotencyRecord",
    "Invitation",
    "KnownDevice",
    "Lease",
    "LimitWindow",
    "MaintenanceRun",
    "Notification",
    "NotificationPreference",
    "Process",
    "Role",
    "SignedPlace",
    "SigningKey",
    "SlowQuery",
    "Team",
    "TokenFamily",
    "TokenUse",
    "UUIDModel",
    "User",
    "Verb",
    "Webhook",
    "WebhookDelivery",
    "alert_about",
    "uuid7",
]
