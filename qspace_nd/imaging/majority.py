"""The protocol that most of some scans have, which the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from qspace_nd.errors import InputError
from qspace_nd.imaging.protocol import Protocol, ScanOptions, bring_to, common_protocol
from qspace_nd.imaging.scans import Scan


def protocol_of_most(scans: Sequence[Scan], options: ScanOptions) -> Protocol | None:
    """The protocol of the first scan that as many as possible of the others can be brought to.

    None where no scan has one.
    """
    groups: list[tuple[Protocol, list[Scan]]] = []
    for scan in scans:
        if not any(_joins(scan, protocol, alike, options) for protocol, alike in groups):
            with suppress(InputError):  # told where the scan is read
                groups.append((common_protocol([scan], options, aloud=False), [scan]))
    if not groups:
        return None
    _, alike = max(groups, key=lambda group: len(group[1]))  # the first of several
    return common_protocol(alike[:1], options)


def _joins(scan: Scan, protocol: Protocol, alike: list[Scan], options: ScanOptions) -> bool:
    try:
        bring_to(scan, protocol, options)
    except InputError:
        return False
    alike.append(scan)
    return True
