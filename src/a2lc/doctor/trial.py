"""Try the remedies that findings propose, before they are proposed to anyone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from a2lc.doctor.diagnosis import Finding, remedies_of
from a2lc.doctor.remedies import Remedy, apply_remedies
from a2lc.errors import InputError
from a2lc.images.options import ReadingOptions

__all__ = ["try_remedies"]

_TRIES = 4
"""Number of looks at the files, each with the remedies that the one before proposed."""


def try_remedies(
    findings: list[Finding], options: ReadingOptions, look: Callable[[ReadingOptions], list[Finding]]
) -> list[Finding]:
    """Return the findings, with those that remain or appear under the remedies that they propose.

    Args:
        findings: What was found under `options`.
        options: How the files were read.
        look: Examines the same files under other options, and returns the findings.
    """
    remedies: tuple[Remedy, ...] = ()
    for _ in range(_TRIES):
        remedies = remedies_of(findings) or ()
        if not remedies:
            return findings
        try:
            left = [finding for finding in look(apply_remedies(options, remedies)) if finding.level == "fault"]
        except InputError as error:
            return [*findings, _not_enough(remedies, str(error))]
        if not left:
            return findings
        known = {finding.code for finding in findings if finding.level == "fault"}
        persistent = [finding for finding in left if finding.code in known or not finding.remedies]
        if persistent:
            return [*findings, _not_enough(remedies, persistent[0].message)]
        findings = [*findings, *left]
    return [*findings, _not_enough(remedies, left[0].message)]


def _not_enough(remedies: Sequence[Remedy], reason: str) -> Finding:
    settings = ", ".join(remedy.setting for remedy in remedies)
    return Finding(
        code="options-not-enough",
        level="fault",
        message=f"Even with {settings}, the import would be refused: {reason}",
        fix="Fix the files first, or remove those that differ from the others.",
    )
