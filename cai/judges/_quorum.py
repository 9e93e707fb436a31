"""How many of several outcomes must be verdicts: those of a panel's judges, or under several principles."""

from collections.abc import Sequence

from cai.judges import Unreadable, Verdict


def check_quorum(quorum: int | None, of: int, noun: str) -> None:
    """Refuse, with a `ValueError`, a quorum that cannot be met."""
    if quorum is not None and not 1 <= quorum <= of:
        raise ValueError(f"'quorum' is {quorum}; there are {of} {noun}: write a number from 1 to {of}")


def short_of(
    named: Sequence[tuple[str, Verdict | Unreadable]], quorum: int | None, noun: str
) -> Unreadable | None:
    """Why too few of the named outcomes are readable, naming those that are not; None when enough are."""
    unread = [(name, one) for name, one in named if isinstance(one, Unreadable)]
    needed = len(named) if quorum is None else quorum
    if len(named) - len(unread) >= needed:
        return None
    reasons = "; ".join(f"{name}: {one.reason}" for name, one in unread)
    count = f"{len(named) - len(unread)} of {len(named)} {noun} could be read, and {needed} must"
    return Unreadable(reason=f"{count}; {reasons}", raw="\n".join(one.raw for _, one in unread if one.raw))
