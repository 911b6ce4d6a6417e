"""How numbers, times and sizes are written on a page."""

from __future__ import annotations

import datetime as dt
import json
import math

_UNITS = ("B", "kB", "MB", "GB", "TB")
# Above this, whole numbers are written as doubles are.
_EXACT = 2**53
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# A value longer than this is shortened: somebody's config may hold a whole file.
_MAX_VALUE = 300


def number_text(value: float) -> str:
    """A number with at most five figures, whole ones as they are."""
    try:
        value = float(value) if abs(value) >= _EXACT else value
    except OverflowError:
        # A whole number that no double can hold; nobody reads all of its digits.
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if abs(value) < 1e7 and value == int(value):
        return str(int(value))
    text = f"{value:.5g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def value_text(value: object) -> str:
    """A config's or summary's value: numbers short, texts as they are, anything else as JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, dict) and isinstance(value.get("_type"), str):
        # W&B's media and histograms: large, and of use to their viewers alone.
        return f"({value['_type']})"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + " …"


def duration_text(seconds: float | None) -> str:
    """A length of time in its two largest units."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def ago_text(moment: float, now: float) -> str:
    """How long ago a moment was, in its largest unit."""
    past = max(0, int(now - moment))
    if past < 5:
        return "just now"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if past >= unit:
            return f"{past // unit} {name} ago"
    return f"{past} s ago"


def moment_text(moment: float) -> str:
    """A moment in UTC."""
    return dt.datetime.fromtimestamp(moment, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def size_text(size: float) -> str:
    """A file's size in decimal units."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} {_UNITS[-1]}"
