"""Import this first in a process that no command of Django's has started."""

import django

django.setup()
