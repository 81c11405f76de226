"""Build a policy: TOML and DBC files in, compiled bytes out.

- Only the signals that a rule names go in, numbered in the order in which they are first named.
- The same input gives the same bytes, on any machine.
- The result has passed the door (`compiled.read_policy`) before anybody sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from agent.errors import ConfigError, PolicyError
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.compiled import read_policy
from agent.policy.dbc import Dictionary, Found
from agent.policy.model import MAX_BYTES, MAX_SIGNALS
from agent.policy.text import PolicyText, RuleText, parse_policy

MAX_TEXT_BYTES: Final = 4 * 1024 * 1024


def build_policy(path: Path) -> bytes:
    """Return the compiled policy of a TOML file; DBC files are named relative to it.

    Raises:
        PolicyError: the text or a DBC file is refused, with file and line.
        ConfigError: a DBC file is needed and cantools is not installed.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise PolicyError(f"policy text above {MAX_TEXT_BYTES} bytes", where=str(path))
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8 text", where=str(path)) from None
    except OSError as error:
        raise PolicyError(f"cannot read the policy: {error.strerror}", where=str(path)) from None
    policy = parse_policy(text, where=str(path))
    return compile_policy(policy, Dictionary([path.parent / name for name in policy.dbc]))


def compile_policy(policy: PolicyText, dictionary: Dictionary) -> bytes:
    """Return the compiled bytes of a checked text.

    Raises:
        PolicyError: a signal is unknown or ambiguous, or the policy is too large.
    """
    numbers: dict[Found, int] = {}
    collect = [_collect(rule, dictionary, numbers) for rule in policy.rules]
    if len(numbers) > MAX_SIGNALS:
        raise PolicyError(f"{len(numbers)} signals", where=policy.dbc_where,
                          todo=f"at most {MAX_SIGNALS}")  # fmt: skip
    words = policy_pb2.Dictionary(signal=[_signal(found) for found in numbers])
    data = _stable(
        policy_pb2.Policy(
            name=policy.name, version=policy.version, region=policy.region,
            not_after_unix=policy.not_after_unix, dictionary=_stable(words),
            collect=collect, decode=[_decode(found) for found in numbers],
        )
    )  # fmt: skip
    if len(data) > MAX_BYTES:
        raise PolicyError(
            f"the compiled policy has {len(data)} bytes", where=policy.dbc_where,
            todo=f"at most {MAX_BYTES}; name fewer signals",
        )  # fmt: skip
    read_policy(data)
    return data


def _stable(message: Message) -> bytes:
    # Map fields (choices) have no order of their own; deterministic sorts them.
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _collect(
    rule: RuleText, dictionary: Dictionary, numbers: dict[Found, int]
) -> policy_pb2.Collect:
    signals = []
    for name in rule.signals:
        found = dictionary.find(name.message, name.name, where=name.where)
        number = numbers.setdefault(found, len(numbers))
        signals.append(policy_pb2.SignalSelector(channel=name.channel, signal=number))
    return policy_pb2.Collect(
        id=rule.id, category=rule.category, purpose=rule.purpose, basis=rule.basis,
        necessity=rule.necessity,
        recipients=sealed_pb2.Recipients.Name(rule.recipients),
        lane=sealed_pb2.Lane.Name(rule.lane),
        keep_s=rule.keep_s,
        frames=[
            policy_pb2.FrameSelector(
                channel=one.channel, first_id=one.first_id, last_id=one.last_id,
                extended=one.extended, any=one.every_id,
            )
            for one in rule.frames
        ],
        signals=signals, every_ns=rule.every_ns, on_change=rule.on_change,
        resolution_ns=rule.resolution_ns, order=rule.order, flush_ns=rule.flush_ns,
    )  # fmt: skip


def _signal(found: Found) -> policy_pb2.Signal:
    info = found.info
    return policy_pb2.Signal(
        name=info.name, message=info.message, unit=info.unit, factor=info.factor,
        offset=info.offset, kind=policy_pb2.Signal.Kind.Name(info.kind), choices=dict(info.choices),
    )  # fmt: skip


def _decode(found: Found) -> policy_pb2.Decode:
    layout = found.layout
    return policy_pb2.Decode(
        id=layout.arbitration_id, extended=layout.extended, start=layout.start, bits=layout.bits,
        big_endian=layout.big_endian,
        mux=[
            policy_pb2.Mux(
                start=one.start, bits=one.bits, big_endian=one.big_endian,
                range=[policy_pb2.MuxRange(first=first, last=last) for first, last in one.ranges],
            )
            for one in layout.mux
        ],
    )  # fmt: skip
