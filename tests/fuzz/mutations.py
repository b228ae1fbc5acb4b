"""Ways to break bytes and JSON. Every choice comes from a `Random`, so that an input is known by its seed alone."""

import copy
import json
import struct
from random import Random
from typing import Any

SECRET = "a line of the secret file outside the folder"

DEEP, DIGITS = "@deep@", "@digits@"
"""Stand in a JSON value for what json.dumps cannot write: 100,000 open brackets, and an integer of 5,000 digits."""

NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 0.5, 1e308, float("nan"), float("inf"), -0.0)
TEXTS = (
    "", " ", "\x00", "a\x00b", "..", "../../secret", "/etc/passwd", "C:\\x", "x" * 300, "y" * 5000, "\ud800", "\u2028",
    "\u202e", "{{7*7}}", "${HOME}", "=1+1", "</script><script>alert(1)</script>", "%s%n", "'\"`;", "nan", "F32", DEEP,
    DIGITS,
)  # fmt: skip
EMPTY = (None, True, False, [], {}, [[]], [None], {"": {}}, [[[[0]]]])


def broken_bytes(random: Random, data: bytes) -> bytes:
    """Bytes with one to four accidents in them."""
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(data) + 1)
        length = random.choice((1, 2, 8, 64, 1000))
        kind = random.randrange(7)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + random.randbytes(length) + data[place + length :]
        elif kind == 2:
            data = data[:place] + random.randbytes(length) + data[place:]
        elif kind == 3:
            data = data[:place] + data[place + length :]
        elif kind == 4:
            data = data[:place] + data[place : place + length] * random.choice((2, 10)) + data[place + length :]
        elif kind == 5:
            width, number = random.choice((("<I", 2**32 - 1), ("<Q", 2**64 - 1), ("<Q", 2**40), ("<q", -1), ("<I", 0)))
            data = data[:place] + struct.pack(width, number) + data[place + struct.calcsize(width) :]
        else:
            data = data[:place] + random.choice((b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"\r", b'"', b"\x1b[2J"))
    return data


def hostile_value(random: Random) -> Any:
    """A value that has no business where it is put."""
    return copy.deepcopy(random.choice(random.choice((NUMBERS, TEXTS, EMPTY))))


def broken_json(random: Random, value: Any) -> Any:
    """A JSON value with one to three of its parts replaced, removed, renamed or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return hostile_value(random)
        holder, key = random.choice(places)
        kind = random.randrange(5)
        if kind <= 1:
            holder[key] = hostile_value(random)
        elif kind == 2:
            del holder[key]
        elif kind == 3 and isinstance(holder, dict):
            holder[random.choice(TEXTS)] = holder.pop(key)
        else:
            holder[key] = random.choice(([holder[key]], {"x": holder[key]}, [holder[key]] * 3, str(holder[key])))
    return value


def json_text(random: Random, value: Any) -> bytes:
    """A JSON value as bytes, now and then with a name given twice, or in another encoding, or cut off."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    text = text.replace(f'"{DEEP}"', "[" * 100_000).replace(f'"{DIGITS}"', "9" * 5000)
    kind = random.randrange(24)
    if kind == 0 and text.startswith("{") and isinstance(value, dict) and value:
        text = "{" + json.dumps(random.choice(sorted(value))) + ":" + json.dumps(0) + "," + text[1:]
    data = text.encode("utf-16" if kind == 1 else "utf-8", errors="surrogatepass")
    if kind == 2:
        data = b"\xef\xbb\xbf" + data
    return broken_bytes(random, data) if kind == 3 else data


def _places(value: Any) -> Any:
    """(holder, key) of every part of a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
