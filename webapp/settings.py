"""Settings: environment variables only, each with a default that works on one machine.

docs/SETTINGS.md lists them; wrong values are reported by the system checks in `webapp.studio.checks`.
"""

import os
import secrets
import sys
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF

from webapp.studio.embedded import default_broker_url, default_database_url

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("POLM_VAR", BASE_DIR / "var")).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)
TESTING = "pytest" in sys.modules


def _flag(name: str, *, default: bool = False) -> bool:
    return os.environ.get(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


def _words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def own_address() -> str:
    """Where the studio answers on its own machine."""
    host = os.environ.get("HOST") or "127.0.0.1"
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{os.environ.get('PORT') or '8000'}"  # noqa: S104


def _secret_key() -> str:
    """`SECRET_KEY`, or one generated into `var/` on first use and readable by its owner alone."""
    if key := os.environ.get("SECRET_KEY"):
        return key
    path = VAR_DIR / "secret_key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        key = secrets.token_urlsafe(50)
        file.write(key)
    return key


# --- where things are -------------------------------------------------------------------------------------------------
DATABASE_URL = os.environ.get("DATABASE_URL") or default_database_url(VAR_DIR)
BROKER_URL = os.environ.get("BROKER_URL") or default_broker_url(VAR_DIR)
ARTIFACT_URL = os.environ.get("ARTIFACT_URL") or f"file://{VAR_DIR / 'artifacts'}"
RUNS_DIR = VAR_DIR / "runs"
UPLOADS_DIR = VAR_DIR / "uploads"
CACHE_DIR = VAR_DIR / "cache"
# How much of a remote artifact store may be kept here.
CACHE_BYTES = int(os.environ.get("POLM_CACHE_BYTES", 50 * 1024**3))
# Base models may be read from these folders of a worker, and from nowhere else.
MODEL_ROOTS = [Path(p).resolve() for p in _words("POLM_MODEL_ROOTS", str(VAR_DIR / "models"))]

# --- telling people ---------------------------------------------------------------------------------------------------
# Links in messages begin with this.
PUBLIC_URL = os.environ.get("POLM_URL", "").rstrip("/") or own_address()
EMAIL_HOST = os.environ.get("EMAIL_HOST", "")
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "25"))
EMAIL_HOST_USER = os.environ.get("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = _flag("EMAIL_USE_TLS")
EMAIL_USE_SSL = _flag("EMAIL_USE_SSL")
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"
DEFAULT_FROM_EMAIL = os.environ.get("DEFAULT_FROM_EMAIL") or "PoLM Studio <studio@localhost>"

# --- watching runs ----------------------------------------------------------------------------------------------------
STALL_SECONDS = os.environ.get("POLM_STALL_SECONDS", "120")
STALL_POLICY = os.environ.get("POLM_STALL_POLICY", "retry")

# --- limits -----------------------------------------------------------------------------------------------------------
# Hosts inside that a judge may be asked at; see polm_core.rewards.endpoint, which reads it where it is asked.
JUDGE_HOSTS = os.environ.get("POLM_JUDGE_HOSTS", "")
# The same for the webhooks of alerts.
WEBHOOK_HOSTS = os.environ.get("POLM_WEBHOOK_HOSTS", "")

MAX_UPLOAD_BYTES = int(os.environ.get("POLM_MAX_UPLOAD_BYTES", 2 * 1024**3))
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024**2
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000
FILE_UPLOAD_HANDLERS = ["webapp.datasets.uploads.BoundedUploadHandler"]
FILE_UPLOAD_TEMP_DIR = UPLOADS_DIR
UPLOADS_DIR.mkdir(parents=True, exist_ok=True)

# --- security ---------------------------------------------------------------------------------------------------------
SECRET_KEY = _secret_key()
DEBUG = _flag("DEBUG")
HTTPS = _flag("POLM_HTTPS")
ALLOWED_HOSTS = _words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _words("CSRF_TRUSTED_ORIGINS")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_COOKIE_HTTPONLY = False  # htmx reads the token from the page, forms from the cookie
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _flag("POLM_BEHIND_PROXY") else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "webapp.ui.middleware.csrf_failure"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        # Plotly writes style attributes while drawing; scripts stay strictly our own files.
        "style-src": [SELF, "'unsafe-inline'"],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    *(["django.contrib.auth.hashers.MD5PasswordHasher"] if TESTING else []),
]
if TESTING:
    PASSWORD_HASHERS.reverse()
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- the application --------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "csp",
    "webapp.accounts",
    "webapp.datasets",
    "webapp.registry",
    "webapp.runs",
    "webapp.metrics",
    "webapp.recipes",
    "webapp.sweeps",
    "webapp.retrieval",
    "webapp.playground",
    "webapp.workbench",
    "webapp.evaluations",
    "webapp.reports",
    "webapp.alerts",
    "webapp.live",
    "webapp.ui",
    "webapp.studio",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "webapp.accounts.middleware.DenyByDefaultMiddleware",
    "webapp.ui.middleware.ErrorPageMiddleware",
]
ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"])]
            if not DEBUG
            else ["django.template.loaders.filesystem.Loader"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.pages.context.frame",
            ],
            "builtins": ["webapp.ui.templatetags.studio"],
        },
    }
]
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/"
DATABASES = {
    "default": {
        # A connection per request: under ASGI each request has a thread of its own, so none could be kept.
        **dj_database_url.parse(DATABASE_URL),
        "TEST": {"NAME": f"test_{os.environ.get('POLM_TEST_DB', 'studio')}"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = os.environ.get("STATIC_ROOT") or None
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "webapp.ui.finders.PackageAssetsFinder",
]
# One machine serves straight from the sources; an image sets STATIC_ROOT, runs collectstatic and serves that.
SERVESTATIC_USE_FINDERS = STATIC_ROOT is None

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "filters": {"hide_secrets": {"()": "webapp.accounts.logs.HideSecrets"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["hide_secrets"]}},
    "root": {"handlers": ["console"], "level": os.environ.get("POLM_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        # A line for each wake-up and each tick of the scheduler says nothing.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
