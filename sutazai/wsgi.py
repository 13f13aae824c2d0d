"""Django as a WSGI application; `asgi.py` serves it from a bounded pool of threads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sutazai.settings")

application = get_wsgi_application()
