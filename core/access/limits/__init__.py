"""How much everybody may ask for: requests, tokens, tasks at a time, and tries at a password.

subjects     who is counted: the key, the person, the team; all of their limits must be kept
allowances   which limits each of them has
windows      the counts of the last minute or so, in Redis, PostgreSQL or an SQLite file of their own
requests     API requests within a minute
attempts     tries at a password, by account and by address
budgets      tokens within a day and a month, reserved before the work and settled after it; tasks at a time
usage        what of all this was used, for people to read
refusals     how each of them says no
"""
