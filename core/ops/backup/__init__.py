"""Backups: making them, restoring them into an empty place, and trying whether that works.

1. `making` copies the database while others write, counts the rows of that very copy, and writes one archive with the
   files worth keeping and, under a passphrase, the secrets. It appears whole or not at all.
2. `restoring` puts an archive into an empty place, and refuses any other.
3. `drill` restores an archive aside and looks whether everything is there.
4. `upgrading` migrates a copy of the database first, and then the database.
5. `catalogue` knows which archives there are, and which are good, and removes old ones.

The others ask the program's tables nothing: they also work before a migration, or without a database.
"""
