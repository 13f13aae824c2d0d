"""Chaos at the gateway: clients of every format make calls of two nodes while something breaks.

What a client may meet then is noted with each call when it is made, or when the fault strikes: mostly the whole
answer, and nothing else.
"""
