"""Zone names: an allow-list from the pinned tzdata, and the likely meaning of a name that is not on it."""

import difflib
import re
import zoneinfo
from collections import defaultdict
from functools import lru_cache
from importlib import import_module, resources
from typing import Final
from zoneinfo import ZoneInfo

from qhronos_core.domain.schedule.refusal import refusal

# Every node must read the same rules, so the host's zone files are not looked at.
zoneinfo.reset_tzpath(to=())

LONGEST_NAME: Final = 64

_NAMES: Final = tuple(
    name
    for name in resources.files("tzdata").joinpath("zones").read_text(encoding="ascii").split()
    if name not in {"Factory", "localtime"}
)
NAMES: Final = frozenset(_NAMES)

_BY_LOWER: Final = {name.lower(): name for name in _NAMES}
_BY_CITY: Final[dict[str, list[str]]] = defaultdict(list)
for _name in _NAMES:
    _BY_CITY[_name.rpartition("/")[2].lower()].append(_name)

# What people mean by an abbreviation, likeliest first. Some are names of their own in tzdata
# (EST, MST, HST, CET, EET, MET, WET, GMT, UTC) and never come this far.
_ABBREVIATIONS: Final = {
    "acdt": ("Australia/Adelaide",),
    "acst": ("Australia/Adelaide", "Australia/Darwin"),
    "adt": ("America/Halifax",),
    "aedt": ("Australia/Sydney", "Australia/Melbourne"),
    "aest": ("Australia/Sydney", "Australia/Brisbane"),
    "akdt": ("America/Anchorage",),
    "akst": ("America/Anchorage",),
    "art": ("America/Argentina/Buenos_Aires",),
    "ast": ("America/Halifax", "America/Puerto_Rico"),
    "awst": ("Australia/Perth",),
    "brt": ("America/Sao_Paulo",),
    "bst": ("Europe/London",),
    "cat": ("Africa/Maputo",),
    "cdt": ("America/Chicago",),
    "cest": ("Europe/Paris", "Europe/Berlin"),
    "clt": ("America/Santiago",),
    "cst": ("America/Chicago", "Asia/Shanghai"),
    "eat": ("Africa/Nairobi",),
    "edt": ("America/New_York",),
    "eest": ("Europe/Athens", "Europe/Helsinki"),
    "et": ("America/New_York",),
    "ct": ("America/Chicago",),
    "mt": ("America/Denver",),
    "pt": ("America/Los_Angeles",),
    "hkt": ("Asia/Hong_Kong",),
    "ict": ("Asia/Bangkok",),
    "idt": ("Asia/Jerusalem",),
    "ist": ("Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"),
    "jst": ("Asia/Tokyo",),
    "kst": ("Asia/Seoul",),
    "mdt": ("America/Denver",),
    "msk": ("Europe/Moscow",),
    "ndt": ("America/St_Johns",),
    "nst": ("America/St_Johns",),
    "nzdt": ("Pacific/Auckland",),
    "nzst": ("Pacific/Auckland",),
    "pdt": ("America/Los_Angeles",),
    "pht": ("Asia/Manila",),
    "pkt": ("Asia/Karachi",),
    "pst": ("America/Los_Angeles", "Asia/Manila"),
    "sast": ("Africa/Johannesburg",),
    "sgt": ("Asia/Singapore",),
    "trt": ("Europe/Istanbul",),
    "wat": ("Africa/Lagos",),
    "west": ("Europe/Lisbon",),
    "wib": ("Asia/Jakarta",),
    "z": ("UTC",),
    "utc": ("UTC",),
    "local": ("UTC",),
    "localtime": ("UTC",),
}
# Large cities that have no zone of their own.
_CITIES: Final = {
    "abuja": "Africa/Lagos",
    "amsterdam": "Europe/Amsterdam",
    "atlanta": "America/New_York",
    "austin": "America/Chicago",
    "bangalore": "Asia/Kolkata",
    "barcelona": "Europe/Madrid",
    "beijing": "Asia/Shanghai",
    "boston": "America/New_York",
    "chennai": "Asia/Kolkata",
    "dallas": "America/Chicago",
    "delhi": "Asia/Kolkata",
    "frankfurt": "Europe/Berlin",
    "geneva": "Europe/Zurich",
    "hamburg": "Europe/Berlin",
    "houston": "America/Chicago",
    "kyiv": "Europe/Kyiv",
    "miami": "America/New_York",
    "milan": "Europe/Rome",
    "montreal": "America/Toronto",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "new delhi": "Asia/Kolkata",
    "osaka": "Asia/Tokyo",
    "philadelphia": "America/New_York",
    "rio de janeiro": "America/Sao_Paulo",
    "saint petersburg": "Europe/Moscow",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "washington": "America/New_York",
}
_OFFSET: Final = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII | re.IGNORECASE)
_HALF_HOURS: Final = {
    ("+", 3, 30): "Asia/Tehran",
    ("+", 4, 30): "Asia/Kabul",
    ("+", 5, 30): "Asia/Kolkata",
    ("+", 5, 45): "Asia/Kathmandu",
    ("+", 6, 30): "Asia/Yangon",
    ("+", 8, 45): "Australia/Eucla",
    ("+", 9, 30): "Australia/Darwin",
    ("+", 10, 30): "Australia/Lord_Howe",
    ("+", 12, 45): "Pacific/Chatham",
    ("-", 3, 30): "America/St_Johns",
    ("-", 9, 30): "Pacific/Marquesas",
}


def check_timezone(name: object) -> str:
    """The same name, if it is one we know, letter for letter.

    Raises:
        UnknownTimezoneError: with one to three names that were probably meant.
    """
    if isinstance(name, str) and name in NAMES:
        return name
    if not isinstance(name, str):
        why, meant = "A time zone is a text such as Europe/Paris.", ["UTC"]
    elif len(name) > LONGEST_NAME:
        why, meant = f"A zone name has at most {LONGEST_NAME} characters.", ["UTC"]
    else:
        why, meant = _explained(name)
    raise refusal(
        "timezone", why, got=name, code="unknown_timezone", fix=[{"timezone": candidate} for candidate in meant[:3]]
    )


@lru_cache(maxsize=512)  # NAMES is finite, so this cannot be filled by a caller
def zone(name: str) -> ZoneInfo:
    """The zone of an allowed name. Text from a caller reaches `ZoneInfo` only through here."""
    return ZoneInfo(check_timezone(name))


def tzdata_version() -> str:
    """The release of the IANA data in use, such as `2026f`."""
    return str(import_module("tzdata").IANA_VERSION)


def _explained(name: str) -> tuple[str, list[str]]:
    wanted = name.strip().lower().replace(" ", "_").replace("\\", "/")
    if (exact := _BY_LOWER.get(wanted)) is not None:
        return f"Zone names are spelled exactly: {exact}.", [exact]
    if (meant := _ABBREVIATIONS.get(wanted)) is not None:
        return "An abbreviation is not a zone: it does not say whose clock changes apply.", list(meant)
    if (offset := _OFFSET.fullmatch(name.strip())) is not None:
        return "An offset is not a zone; a fixed one is written Etc/GMT with the sign turned round.", _of_offset(offset)
    spoken = wanted.replace("_", " ")
    city = wanted.rpartition("/")[2]
    if (here := _CITIES.get(spoken) or _CITIES.get(city.replace("_", " "))) is not None:
        return "This city has no zone of its own; this is the one it keeps.", [here]
    if city in _BY_CITY:
        ranked = sorted(_BY_CITY[city], key=lambda candidate: ("/" not in candidate, candidate))
        return "A zone is named area/city.", ranked
    near = difflib.get_close_matches(wanted, list(_BY_LOWER), n=3, cutoff=0.75)
    if not near:
        near_cities = difflib.get_close_matches(city, list(_BY_CITY), n=2, cutoff=0.75)
        return (
            "No such time zone. Zones are IANA names such as Europe/Paris.",
            [_BY_CITY[found][0] for found in near_cities] or ["UTC"],
        )
    return "No such time zone. Zones are IANA names such as Europe/Paris.", [_BY_LOWER[found] for found in near]


def _of_offset(offset: re.Match[str]) -> list[str]:
    sign, hours, minutes = offset[1], int(offset[2]), int(offset[3] or 0)
    if minutes == 0 and hours == 0:
        return ["UTC"]
    if minutes == 0:
        turned = f"Etc/GMT{'-' if sign == '+' else '+'}{hours}"
        return [turned] if turned in NAMES else ["UTC"]
    return [_HALF_HOURS.get((sign, hours, minutes), "UTC")]
