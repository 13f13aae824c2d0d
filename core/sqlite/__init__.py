"""Django's backend for SQLite, which spends less than Django does around each statement."""
