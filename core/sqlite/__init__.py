"""SQLite, as this program uses it: django-prometheus's backend, with the class of its cursors made once."""
