import random

import pytest

from core.ops import sql_text
from core.ops.sql_text import normalised


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (
            'SELECT "a"."b" FROM "a" WHERE "a"."id" = %s LIMIT 21',
            'SELECT "a"."b" FROM "a" WHERE "a"."id" = %s LIMIT %s',
        ),
        ("SELECT 'it''s' || 'b'  -- hunter2\n FROM t1", "SELECT %s || %s FROM t1"),
        ("SELECT E'a\\'hunter2', 'c:\\', 'next'", "SELECT %s, %s, %s"),
        ("SELECT $$hunter2$$, $tag$ it's $$ $tag$, $1", "SELECT %s, %s, %s"),
        ("SELECT X'00ff', 0x1F, 1.5e-3, .5, U&'d!0061t'", "SELECT %s, %s, %s, %s, %s"),
        ("SELECT 1 /* 'hunter2 */ + 2", "SELECT %s + %s"),
        ("UPDATE t SET secret = 'hunter2", "UPDATE t SET secret = %s"),
        ('SELECT "it\'s" FROM "x" WHERE y = \'hunter2\'', 'SELECT "it\'s" FROM "x" WHERE y = %s'),
        ("WHERE a IN (%s, %s, %s) AND b IN (1,2)", "WHERE a IN (%s) AND b IN (%s)"),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "INSERT INTO t VALUES (%s, %s)"),
        ("SELECT CAST(x AS varchar(20)), y::numeric(5, 2)", "SELECT CAST(x AS varchar(20)), y::numeric(5, 2)"),
        ("ALTER ROLE me PASSWORD 'hunter2'", "ALTER ROLE me PASSWORD %s"),
        ("", ""),
    ],
)
def test_every_value_becomes_a_place(sql, text):
    assert normalised(sql) == text


def test_statements_that_differ_in_values_alone_are_one():
    lists = [", ".join(["%s"] * count) for count in (1, 5, 40_000)]
    texts = {normalised(f"SELECT * FROM t WHERE id IN ({places})") for places in lists}
    assert len({sql_text.fingerprint(text) for text in texts}) == 1


def test_a_long_text_is_cut():
    text = normalised(f"SELECT {', '.join(f'column_{number}' for number in range(2000))}")
    assert len(text) == sql_text.MOST_KEPT
    assert text.endswith(sql_text.CUT)


def test_no_value_survives_however_pieces_are_put_together():
    """Whatever stands around a literal, also what is broken, it goes."""
    dice = random.Random(7)
    around = ["SELECT ", '"na\'me"', "a", "1", ", ", "\\", "/* it's */", "-- it's\n", "%s", "(", ")", "E'\\''", "''"]
    for _ in range(3000):
        before = " ".join(dice.choices(around, k=dice.randrange(6)))
        after = " ".join(dice.choices(around, k=dice.randrange(6)))
        for literal in ("'hunter2'", "E'x\\'hunter2'", "$$hunter2$$", "N'it''s hunter2'"):
            assert "hunter2" not in normalised(f"{before} {literal} {after}"), (before, literal, after)


def test_a_hostile_text_costs_no_more_than_its_length():
    for piece in ("'", '"', "$a", "/*", "(%s, ", "--", "1.", " "):
        assert len(normalised(piece * sql_text.MOST_READ)) <= sql_text.MOST_KEPT
