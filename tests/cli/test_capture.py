"""What `inland capture --once` says when all is done."""

from __future__ import annotations

from agent.cli.capture import over

STATUS = {
    "region": "urn:inland:region:cn", "policy": {"name": "bench"}, "samples": 30,
    "frames": {"received": 48495, "kept": 48000, "lost": 1}, "spool": {"size": 61},
}  # fmt: skip


def test_it_says_what_became_of_the_log():
    assert over(STATUS) == (
        "the log is over: 48,495 frames seen, 48,000 kept, 1 lost, 30 samples of signals; "
        "61 entries, all receipted by urn:inland:region:cn"
    )


def test_without_a_policy_it_says_why_nothing_was_kept():
    assert over({**STATUS, "policy": {"name": None}}).endswith(
        "\nno policy is in force, so nothing was kept: `inland policy install`"
    )
