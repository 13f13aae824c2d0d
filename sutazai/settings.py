"""Every setting, read from the environment. A clone runs with none set.

Data directory, database, broker and Redis come first; then what Django and the libraries need; then our own limits.
"""

from pathlib import Path
from urllib.parse import urlsplit

from corsheaders.defaults import default_headers
from csp.constants import NONCE, NONE, SELF, UNSAFE_INLINE

from sutazai import schedules
from sutazai.console import UNFOLD  # noqa: F401 - unfold reads it
from sutazai.env import (
    database,
    env,
    given,
    networks,
    one_of,
    optional_positive_int,
    optional_secret,
    origin,
    origins,
    passphrase,
    positive_float,
    positive_int,
    secret,
    secrets_list,
    whole_number,
)

BASE_DIR = Path(__file__).resolve().parent.parent

# Deployment -------------------------------------------------------------------------------------------------------
# "local": plain HTTP on a trusted machine, secrets generated. "production": HTTPS only, secrets must be given.
# Every secret, and every address that may hold one, can also come from a file: NAME_FILE names it.
ENVIRONMENT = one_of("SUTAZAI_ENV", ("local", "production"))
IS_PRODUCTION = ENVIRONMENT == "production"
DEBUG = False
VERSION = "1.0.0"
# Everything that the program writes stands below this folder.
DATA_DIR = Path(env.str("SUTAZAI_DATA_DIR", default=str(BASE_DIR / "data"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
HOST = env.str("SUTAZAI_HOST", default="127.0.0.1")
PORT = positive_int("SUTAZAI_PORT", 10010)
WEB_PROCESSES = positive_int("SUTAZAI_WEB_PROCESSES", 1)
# Where they are replaced one after the other, the next one has so long to begin before the old one goes.
WEB_OVERLAP_SECONDS = positive_float("SUTAZAI_WEB_OVERLAP_SECONDS", 20)

_secrets_dir = None if IS_PRODUCTION else DATA_DIR / "secrets"
SECRET_KEY = secret("SUTAZAI_SECRET_KEY", generated_in=_secrets_dir)
# Mixed into the hash of every API key, so that a stolen database alone reveals none.
API_KEY_PEPPER = secret("SUTAZAI_API_KEY_PEPPER", generated_in=_secrets_dir)
# Seals the audit log. Whoever changes it makes every entry that was sealed before look forged.
AUDIT_KEY = secret("SUTAZAI_AUDIT_KEY", generated_in=_secrets_dir)
# Signs statements of where the audit log stands, which others check with its public half.
AUDIT_SIGNING_KEY = secret("SUTAZAI_AUDIT_SIGNING_KEY", generated_in=_secrets_dir)

# Encrypt what must be read again (core.secrets), newest first; `manage.py rotate_secrets` after a change.
ENCRYPTION_KEYS = secrets_list("SUTAZAI_ENCRYPTION_KEYS", generated_in=_secrets_dir)

ALLOWED_HOSTS = env.list("SUTAZAI_ALLOWED_HOSTS", default=[] if IS_PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("SUTAZAI_TRUSTED_ORIGINS", default=[])

# Pools ------------------------------------------------------------------------------------------------------------
# Each process has its own: of outgoing calls, and of connections to PostgreSQL and Redis. Where one is full, who comes
# waits so many seconds, and then fails.
POOL_WAIT_SECONDS = positive_float("SUTAZAI_POOL_WAIT_SECONDS", 5)
# Calls at a time to one target, such as a model server. What limits the work of a model server are its slots, so this
# is far above them.
POOL_CONNECTIONS = {
    "ollama": positive_int("SUTAZAI_OLLAMA_CONNECTIONS", 1024),
    "agents": positive_int("SUTAZAI_AGENT_CONNECTIONS", 64),
    "external": positive_int("SUTAZAI_EXTERNAL_CONNECTIONS", 32),
}
# Each web process, the worker and its quarantine have one; with up to six web processes they stay together under
# PostgreSQL's default of 100, also while one of several is replaced.
_pools = 3 if WEB_PROCESSES == 1 else WEB_PROCESSES + 3
DATABASE_CONNECTIONS = positive_int("SUTAZAI_DATABASE_POOL", max(10, 90 // _pools))
REDIS_CONNECTIONS = positive_int("SUTAZAI_REDIS_CONNECTIONS", 50)

# Database ---------------------------------------------------------------------------------------------------------
DATABASE_URL = given("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")
DATABASES = {
    "default": database(
        DATABASE_URL,
        busy_timeout_seconds=5,  # under a third of the lease: a waiting heartbeat still comes in time
        statement_timeout_seconds=10,
        pool_max=DATABASE_CONNECTIONS,
        pool_wait_seconds=POOL_WAIT_SECONDS,
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis (optional) -------------------------------------------------------------------------------------------------
REDIS_URL = given("REDIS_URL")
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "core.net.redis.Cache",
            "LOCATION": REDIS_URL,
            "OPTIONS": {
                "CONNECTION_POOL_CLASS": "core.net.redis.Pool",
                "CONNECTION_POOL_KWARGS": {
                    "max_connections": REDIS_CONNECTIONS,
                    "timeout": POOL_WAIT_SECONDS,
                    "socket_connect_timeout": 2,
                    "socket_timeout": 5,
                },
            },
        }
    }

# Response cache ---------------------------------------------------------------------------------------------------
CACHE_SECONDS = whole_number("SUTAZAI_CACHE_SECONDS", 3600)  # how long answers are kept; 0: none is
CACHE_MEMORY_BYTES = positive_int("SUTAZAI_CACHE_MEMORY_BYTES", 32 * 2**20)  # of each web and worker process
CACHE_SHARED_BYTES = positive_int("SUTAZAI_CACHE_SHARED_BYTES", 256 * 2**20)  # in Redis, PostgreSQL or the file
CACHE_VALUE_BYTES = positive_int("SUTAZAI_CACHE_VALUE_BYTES", 2 * 2**20)  # a larger one is not kept
# Without Redis and PostgreSQL, what all processes share stands in a file of its own.
CACHE_FILE = DATA_DIR / "cache.sqlite3"

# Celery -----------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = given("CELERY_BROKER_URL", default=REDIS_URL or "filesystem://localhost")
_broker_scheme = urlsplit(CELERY_BROKER_URL).scheme
if _broker_scheme == "filesystem":
    _broker_dir = DATA_DIR / "broker"
    for _name in ("messages", "control"):
        (_broker_dir / _name).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_broker_dir / "messages"),
        "data_folder_out": str(_broker_dir / "messages"),
        "control_folder": str(_broker_dir / "control"),
        "polling_interval": 0.02,  # seconds; 16 ms to the first token for 0.5 % of a core
    }
elif _broker_scheme in {"amqp", "amqps", "pyamqp"}:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True, "confirm_timeout": 5}
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 10}
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # wait for the broker for ever
# A lost message is published again by the relay, so publishing never waits for a broker that is down.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_DEFAULT_DELIVERY_MODE = "transient"  # for the same reason no message needs to survive its broker
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = False
CELERY_RESULT_EXPIRES = None  # there are no results, so beat needs no schedule that cleans them up
CELERY_TASK_ACKS_LATE = False  # leases on the rows do what late acknowledgement would
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# With threads, its restoration after a lost connection talks to RabbitMQ from several threads at once, which garbles
# the connection: the worker stays deaf for minutes.
CELERY_WORKER_ENABLE_PREFETCH_COUNT_REDUCTION = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "agents"
CELERY_TASK_ROUTES = {
    "core.run_maintenance": {"queue": "maintenance"},
    # Never behind runners that wait for models.
    "core.send_notification_email": {"queue": "maintenance"},
    "core.send_webhook_deliveries": {"queue": "maintenance"},
}
CELERY_BEAT_SCHEDULER = "core.ops.beat:Scheduler"
CELERY_BEAT_SYNC_EVERY = 1  # a beat that is killed knows at its next start what it has sent
CELERY_BEAT_MAX_LOOP_INTERVAL = 30  # seconds until an edited schedule is noticed at the latest

# Applications -----------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",  # the web process discovers the console; others do without
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "corsheaders",
    "django_celery_beat",
    "django_filters",
    "django_prometheus",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "core",
    "agents",
]
MIDDLEWARE = [
    "core.api.traffic.RouteMiddleware",
    "core.api.forwarded.ForwardedMiddleware",
    "core.api.request_id.RequestIdMiddleware",
    "core.api.audit.AuditMiddleware",
    "core.api.limits.RateLimitMiddleware",
    "core.api.problems.RefusalMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "core.api.headers.FixedHeadersMiddleware",
    "core.api.headers.ContentPolicyMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "core.access.sign_in.middleware.SignInMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "sutazai.urls"
WSGI_APPLICATION = "sutazai.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]

# Sign-in ----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "core.User"
# Of the operator whom the first start creates; empty: a password is made up and shown once.
OPERATOR_PASSWORD = given("SUTAZAI_OPERATOR_PASSWORD")
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "panel-dashboard"
AUTHENTICATION_BACKENDS = ["core.access.sign_in.backend.SignInBackend"]
PASSWORD_HASHERS = [
    "core.access.passwords.PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
# Tokens of programs and apps (core.access.tokens): how long one opens doors, and how long a sign-in lasts at most.
ACCESS_TOKEN_MINUTES = positive_int("SUTAZAI_ACCESS_TOKEN_MINUTES", 5)
SIGN_IN_DAYS = positive_int("SUTAZAI_SIGN_IN_DAYS", 30)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
SESSION_COOKIE_NAME = "sutazai_session"
SESSION_COOKIE_AGE = 7 * 24 * 3600  # seconds
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_NAME = "sutazai_csrf"
# Staff open the console, and the API from a browser, only after a second factor.
REQUIRE_SECOND_FACTOR = env.bool("SUTAZAI_REQUIRE_SECOND_FACTOR", default=IS_PRODUCTION)
# Dangerous things need a sign-in, or a confirmation by password or code, that is no older.
RECENT_SIGN_IN_SECONDS = 60 * positive_float("SUTAZAI_RECENT_SIGN_IN_MINUTES", 15)
INVITATION_DAYS = positive_int("SUTAZAI_INVITATION_DAYS", 7)

ACCOUNT_ADAPTER = "core.access.sign_in.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]  # closed; allauth checks that they fit
ACCOUNT_EMAIL_VERIFICATION = "none"  # operators and invitations vouch for addresses
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # nobody makes this server write to strangers
ACCOUNT_EMAIL_SUBJECT_PREFIX = "SutazAI: "
ACCOUNT_FORMS = {
    "login": "core.access.sign_in.forms.SignInForm",
    "reauthenticate": "core.access.sign_in.forms.ConfirmForm",
    "reset_password": "core.access.sign_in.forms.ResetForm",
}
ACCOUNT_RATE_LIMITS = False  # core.access.sign_in.attempts is where limits take hold
ACCOUNT_REAUTHENTICATION_TIMEOUT = RECENT_SIGN_IN_SECONDS
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL

MFA_ADAPTER = "core.access.sign_in.adapter.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_ISSUER = "SutazAI"
MFA_TOTP_TOLERANCE = 1  # steps of 30 s by which a clock may be wrong
MFA_FORMS = {
    "authenticate": "core.access.sign_in.forms.CodeForm",
    "reauthenticate": "core.access.sign_in.forms.CodeAgainForm",
    "add_webauthn": "core.access.sign_in.forms.PasskeyForm",
}
MFA_RATE_LIMITS = False
# Browsers know passkeys without TLS on localhost only, which they call secure.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_PRODUCTION

# An identity provider (OpenID Connect), optional.
OIDC_ISSUER = env.str("SUTAZAI_OIDC_ISSUER", default="")
_issuer = urlsplit(OIDC_ISSUER)
OIDC_CLIENT_SECRET = given("SUTAZAI_OIDC_CLIENT_SECRET")
# Of verified email addresses whose owners may make an account by signing in; others need an invitation.
OIDC_DOMAINS = [domain.lower() for domain in env.list("SUTAZAI_OIDC_DOMAINS", default=[])]
SOCIALACCOUNT_ADAPTER = "core.access.sign_in.adapter.SocialAdapter"
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "provider_class": "core.access.sign_in.oidc.Provider",
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "sso",  # stands in addresses and rows, never changes
                "name": env.str("SUTAZAI_OIDC_NAME", default="single sign-on"),
                "client_id": env.str("SUTAZAI_OIDC_CLIENT_ID", default=""),
                "secret": OIDC_CLIENT_SECRET,
                "settings": {"server_url": OIDC_ISSUER},
            }
        ]
        if OIDC_ISSUER
        else [],
    }
}

# Email (optional) ------------------------------------------------------------------------------------------------
# smtp+tls://user:password@host:587. Without it, links of invitations are shown, passwords are reset by operators, and
# notifications stand in the product alone.
_email_url = given("SUTAZAI_EMAIL_URL")
EMAIL_IS_CONFIGURED = bool(_email_url)
if EMAIL_IS_CONFIGURED:
    vars().update(env.email_url_config(_email_url))
    EMAIL_TIMEOUT = 10  # seconds; somebody waits
else:
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
# Where links in emails lead that no request asks for.
PUBLIC_URL = origin(
    "SUTAZAI_PUBLIC_URL",
    default=next((text for text in CSRF_TRUSTED_ORIGINS if "*" not in text), f"http://localhost:{PORT}"),
)
DEFAULT_FROM_EMAIL = env.str("SUTAZAI_EMAIL_FROM", default="sutazai@localhost")

# Limits -----------------------------------------------------------------------------------------------------------
# Defaults; operators set others for single keys, people and teams in the console. Nobody is without a request limit.
REQUESTS_PER_MINUTE = positive_int("SUTAZAI_REQUESTS_PER_MINUTE", 6000)  # for each key, and each person's sign-in
ANONYMOUS_REQUESTS_PER_MINUTE = positive_int("SUTAZAI_ANONYMOUS_REQUESTS_PER_MINUTE", 300)  # for each address
TOKENS_PER_DAY = optional_positive_int("SUTAZAI_TOKENS_PER_DAY")  # for each person; not set: no limit
TOKENS_PER_MONTH = optional_positive_int("SUTAZAI_TOKENS_PER_MONTH")  # as above
CONCURRENT_TASKS = optional_positive_int("SUTAZAI_CONCURRENT_TASKS")  # for each person; not set: no limit
# Tries at a password that failed, within the window.
SIGN_IN_TRIES_PER_ACCOUNT = positive_int("SUTAZAI_SIGN_IN_TRIES_PER_ACCOUNT", 10)
SIGN_IN_TRIES_PER_ADDRESS = positive_int("SUTAZAI_SIGN_IN_TRIES_PER_ADDRESS", 50)
SIGN_IN_WINDOW_SECONDS = positive_int("SUTAZAI_SIGN_IN_WINDOW_SECONDS", 300)
# Where the database is SQLite, what was counted stands in a file of its own.
LIMITS_FILE = DATA_DIR / "limits.sqlite3"

# Transport --------------------------------------------------------------------------------------------------------
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = IS_PRODUCTION
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if IS_PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_PRODUCTION
SECURE_REDIRECT_EXEMPT = [r"^health", r"^metrics"]  # probes and scrapers come from inside
# Who may say where a request came from, and that it came by HTTPS: networks of reverse proxies (core.net.clients).
TRUSTED_PROXIES = networks("SUTAZAI_TRUSTED_PROXIES", default=("127.0.0.0/8", "::1/128") if IS_PRODUCTION else ())
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # anybody else's was dropped before
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

# What pages may load and run -------------------------------------------------------------------------------------
# core.api.headers sends this with pages, and 'none' with everything else; the console's pages get 'unsafe-eval' too.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],  # a script inside of a page needs the request's nonce
        # The theme and our pages set styles in attributes, which a nonce cannot cover. A style runs no code.
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        # Browsers also ask it where a form's answer redirects to: the identity provider.
        "form-action": [SELF, *([f"{_issuer.scheme}://{_issuer.netloc}"] if OIDC_ISSUER else [])],
        "frame-ancestors": [NONE],
    }
}

# Pages of other origins -------------------------------------------------------------------------------------------
# GET /api/v1/cors-check tells whether an origin is allowed, and why.
CORS_ALLOWED_ORIGINS = origins("SUTAZAI_CORS_ORIGINS")
CORS_ALLOW_CREDENTIALS = env.bool("SUTAZAI_CORS_CREDENTIALS", default=False)
CORS_URLS_REGEX = r"^/(api|v1|ollama)/"
CORS_ALLOW_HEADERS = [*default_headers, "idempotency-key", "last-event-id", "prefer", "x-request-id", "x-sutazai-node"]
CORS_EXPOSE_HEADERS = [
    *("Idempotent-Replay", "Location", "Preference-Applied", "Retry-After", "X-Request-Id"),
    *(f"X-SutazAI-{name}" for name in ("Task", "Node", "Cache", "Truncated", "Queue-Wait")),
]
CORS_PREFLIGHT_MAX_AGE = 600  # seconds; browsers forget a removed origin soon

# Request size -----------------------------------------------------------------------------------------------------
DATA_UPLOAD_MAX_MEMORY_SIZE = positive_int("SUTAZAI_MAX_BODY_BYTES", 2 * 2**20)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 0  # no form of ours takes a file
# Calls of models carry whole conversations, and pictures.
GATEWAY_BODY_BYTES = positive_int("SUTAZAI_GATEWAY_BODY_BYTES", 32 * 2**20)
# Files of models, which are passed on to a node as they come.
BLOB_BYTES = positive_int("SUTAZAI_BLOB_BYTES", 64 * 2**30)
# How long a body may take to arrive (a model's file: each part of it); whoever sends slower than this holds
# connections open on purpose.
BODY_SECONDS = positive_float("SUTAZAI_BODY_SECONDS", 60)

# The gateway ------------------------------------------------------------------------------------------------------
# Who answers clients of Ollama and OpenAI: the web process itself, or workers.
GATEWAY_LANE = one_of("SUTAZAI_GATEWAY_LANE", ("quick", "celery"))
# Texts of one embedding call that one task takes; more are spread over nodes and slots.
EMBEDDING_PART = positive_int("SUTAZAI_EMBEDDING_PART", 64)

# API --------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "core.access.authentication.BearerAuthentication",
        "core.access.authentication.BrowserAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["core.access.permissions.MayDoIt"],
    "DEFAULT_THROTTLE_CLASSES": ["core.api.limits.RequestThrottle"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["core.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "core.api.negotiation.CurlNegotiation",
    "DEFAULT_PAGINATION_CLASS": "core.api.pagination.NewestFirstPagination",
    "DEFAULT_FILTER_BACKENDS": [
        "core.api.filters.StrictFilterBackend",
        "core.api.filters.StrictOrderingFilter",
        "core.api.filters.TextSearchFilter",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "core.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "SutazAI",
    "DESCRIPTION": "Durable answers from agents on Ollama servers.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["core.access.permissions.MayDoIt"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "core.api.schema.add_problems"],
    "ENUM_NAME_OVERRIDES": {
        "BreakerHoldEnum": ["open", "closed"],
        "BreakerStateEnum": "core.models.breaker.CircuitBreaker.State",
        "NodeStatusEnum": "agents.models.node.Node.Status",
        "PriorityEnum": "agents.api.priorities.CLASSES",
        "QueuePriorityEnum": "agents.api.priorities.PLACES",
        "TaskStatusEnum": "agents.models.task.AgentTask.Status",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# Engine -----------------------------------------------------------------------------------------------------------
LEASE_SECONDS = positive_float("SUTAZAI_LEASE_SECONDS", 30)
HEARTBEAT_SECONDS = positive_float("SUTAZAI_HEARTBEAT_SECONDS", 10)
REAPER_SECONDS = positive_float("SUTAZAI_REAPER_SECONDS", 5)
RELAY_SECONDS = positive_float("SUTAZAI_RELAY_SECONDS", 1)
RUNNER_THREADS = positive_int("SUTAZAI_RUNNER_THREADS", 64)
WEB_THREADS = positive_int("SUTAZAI_WEB_THREADS", 16)
MAX_ATTEMPTS = positive_int("SUTAZAI_MAX_ATTEMPTS", 5)
RETRY_BASE_SECONDS = positive_float("SUTAZAI_RETRY_BASE_SECONDS", 2)
RETRY_CAP_SECONDS = positive_float("SUTAZAI_RETRY_CAP_SECONDS", 300)
# Tasks waiting for one model; more are refused with 503, so that nobody waits in a queue without an end.
MAX_QUEUED_PER_MODEL = positive_int("SUTAZAI_MAX_QUEUED_PER_MODEL", 10_000)
# Longer than that nobody should wait for a model: an alert fires.
QUEUE_WAIT_TARGET_SECONDS = positive_float("SUTAZAI_QUEUE_WAIT_TARGET_SECONDS", 300)
# Who waits so long moves up a class of priority.
QUEUE_AGING_SECONDS = positive_float("SUTAZAI_QUEUE_AGING_SECONDS", 60)
# Who waits so long for a model that is not loaded has one that is loaded make room (Node.max_loaded_models).
SWAP_WAIT_SECONDS = positive_float("SUTAZAI_SWAP_WAIT_SECONDS", 30)
IDEMPOTENCY_HOURS = positive_int("SUTAZAI_IDEMPOTENCY_HOURS", 24)

# Outgoing calls ---------------------------------------------------------------------------------------------------
# Networks in which model servers may be. Cloud metadata and link-local addresses never are (core.net.addresses).
_private = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
NODE_NETWORKS = networks("SUTAZAI_NODE_NETWORKS", default=() if IS_PRODUCTION else _private)
# Networks besides the internet in which the identity provider may be.
OIDC_NETWORKS = networks("SUTAZAI_OIDC_NETWORKS", default=() if IS_PRODUCTION else _private)
# Networks besides the internet to which addresses that people give us may lead.
WEBHOOK_NETWORKS = networks("SUTAZAI_WEBHOOK_NETWORKS")

# Circuit breakers: so many failures in a row open one, where no more than the window lies between two of them.
BREAKER_FAILURES = positive_int("SUTAZAI_BREAKER_FAILURES", 3)
BREAKER_WINDOW_SECONDS = positive_float("SUTAZAI_BREAKER_WINDOW_SECONDS", 600)
# Until an open one is probed; twice as long after each probe that failed, up to the limit. What is back is in use
# again within the limit and a second or two.
BREAKER_COOL_DOWN_SECONDS = positive_float("SUTAZAI_BREAKER_COOL_DOWN_SECONDS", 1)
BREAKER_MAX_COOL_DOWN_SECONDS = positive_float("SUTAZAI_BREAKER_MAX_COOL_DOWN_SECONDS", 3)

# Model servers ----------------------------------------------------------------------------------------------------
OLLAMA_HOST = env.str("OLLAMA_HOST", default="")
DEFAULT_MODEL = env.str("SUTAZAI_DEFAULT_MODEL", default="tinyllama")
DEFAULT_NODE_SLOTS = positive_int("SUTAZAI_NODE_SLOTS", 4)

# Housekeeping -----------------------------------------------------------------------------------------------------
SIGN_IN_SESSION_MAX_AGE_DAYS = positive_int("SUTAZAI_SIGN_IN_SESSION_MAX_AGE_DAYS", 7)
CHAT_SESSION_IDLE_HOURS = positive_int("SUTAZAI_CHAT_SESSION_IDLE_HOURS", 24)
# Until the pieces of an answer become one event: streams of old answers then come at once, and are not resumed in the
# middle.
EVENT_DAYS = positive_int("SUTAZAI_EVENT_DAYS", 7)
TASK_DAYS = whole_number("SUTAZAI_TASK_DAYS", 0)  # for finished tasks and closed conversations; 0: for ever
# For those that were read, and for what was sent to webhooks.
NOTIFICATION_DAYS = positive_int("SUTAZAI_NOTIFICATION_DAYS", 90)
MAINTENANCE_HISTORY_DAYS = positive_int("SUTAZAI_MAINTENANCE_HISTORY_DAYS", 30)
HEALTH_DAYS = positive_int("SUTAZAI_HEALTH_DAYS", 30)  # for the history of what everything depends on
ALERT_DAYS = positive_int("SUTAZAI_ALERT_DAYS", 90)  # for those that were resolved
# Older entries of the audit log are removed (core.audit.retention), and written to a folder before, if not to "none".
AUDIT_KEEP_DAYS = whole_number("SUTAZAI_AUDIT_KEEP_DAYS", 0)  # 0: for ever
_audit_archive = env.str("SUTAZAI_AUDIT_ARCHIVE", default=str(DATA_DIR / "audit"))
AUDIT_ARCHIVE = None if _audit_archive == "none" else Path(_audit_archive).resolve()
MAINTENANCE_SCHEDULES = schedules.MAINTENANCE

# Slow queries -----------------------------------------------------------------------------------------------------
# Statements that take so long are kept for the console, without their values; 0: none is.
SLOW_QUERY_SECONDS = whole_number("SUTAZAI_SLOW_QUERY_MS", 100) / 1000

# Backups ----------------------------------------------------------------------------------------------------------
# Processes on several machines need a folder that all of them see. A copy elsewhere is up to the operator.
BACKUP_DIR = Path(env.str("SUTAZAI_BACKUP_DIR", default=str(DATA_DIR / "backups"))).resolve()
BACKUP_KEEP = positive_int("SUTAZAI_BACKUP_KEEP", 14)  # that are good; more are removed, the oldest first
BACKUP_KEEP_DAYS = positive_int("SUTAZAI_BACKUP_KEEP_DAYS", 30)  # older ones are removed
# An alert fires when the newest good one is older: one a day is usual, and two hours for it to be made.
BACKUP_MAX_AGE_SECONDS = 3600 * positive_float("SUTAZAI_BACKUP_MAX_AGE_HOURS", 26)
# Encrypts the secrets of this installation in each backup; without it, they are not in there.
BACKUP_PASSPHRASE = passphrase("SUTAZAI_BACKUP_PASSPHRASE")

# Metrics ----------------------------------------------------------------------------------------------------------
# Operators read /metrics, and keys of theirs that may do nothing else. So may whoever has this token; and, without any
# credentials, whoever reaches this port, where one is set.
METRICS_TOKEN = optional_secret("SUTAZAI_METRICS_TOKEN")
METRICS_PORT = optional_positive_int("SUTAZAI_METRICS_PORT")
METRICS_HOST = env.str("SUTAZAI_METRICS_HOST", default="127.0.0.1")
PROMETHEUS_EXPORT_MIGRATIONS = False
# The API key with which `manage.py monitor` asks what takes one.
MONITOR_KEY = given("SUTAZAI_MONITOR_KEY")

# Logs -------------------------------------------------------------------------------------------------------------
# core.logs makes the lines: without secrets, and each event on one line. "json" is for machines that collect logs.
LOG_FORMAT = one_of("SUTAZAI_LOG_FORMAT", ("json", "text") if IS_PRODUCTION else ("text", "json"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"text": {"()": "core.logs.TextFormatter"}, "json": {"()": "core.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": env.str("SUTAZAI_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django": {"handlers": [], "level": "INFO"},  # not to Django's own handlers as well
        # Celery tells of every message and of every start; what fails in a task is in the task's row.
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
