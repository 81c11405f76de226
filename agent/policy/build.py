"""Build a policy: TOML and DBC files in, compiled bytes out.

- Only the signals that a rule or clause names go in, numbered in the order in which they are first
  named.
- The same input gives the same bytes, on any machine.
- Protected zones go in sealed, never in the clear.
- The result has passed the door (`compiled.read_policy`) before anybody sees it.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from agent.errors import ConfigError, PolicyError
from agent.files import read_plain, read_text
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.build_clauses import (
    Numbers,
    camera_of,
    condition_of,
    decode_of,
    event_of,
    frames_of,
    recorder_of,
    selector_of,
    signal_of,
)
from agent.policy.clauses import MAX_ZONES_BYTES, ZONES_MAGIC
from agent.policy.compiled import read_policy
from agent.policy.dbc import Dictionary
from agent.policy.load_checks import is_place, must_be_coarse, place_objection
from agent.policy.mistakes import Mistakes
from agent.policy.model import MAX_BYTES, MAX_SIGNALS
from agent.policy.precision import grain, is_degrees
from agent.policy.text import PolicyText, RuleText, parse_policy
from agent.policy.text_clauses import CameraText, SignalName

MAX_TEXT_BYTES: Final = 4 * 1024 * 1024


def build_policy(path: Path) -> bytes:
    """Return the compiled policy of a TOML file; the files that it names are relative to it.

    Raises:
        PolicyError: the text, a DBC file or the zones are refused, with file and line.
        ConfigError: the file cannot be read, or a DBC file is needed and cantools is not installed.
    """
    try:
        text = read_text(path, MAX_TEXT_BYTES)
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8 text", where=str(path)) from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise PolicyError(f"policy text {error.strerror}", where=str(path)) from None
        raise ConfigError(f"cannot read the policy: {error.strerror}", where=str(path)) from None
    return build_text(text, where=str(path), folder=path.parent)


def build_text(text: str, *, where: str, folder: Path) -> bytes:
    """Return the compiled policy of a TOML text.

    Args:
        text: TOML.
        where: file name for errors.
        folder: that the files which it names are relative to.

    Raises:
        PolicyError: see `build_policy`.
        ConfigError: a DBC file is needed and cantools is not installed.
    """
    policy = parse_policy(text, where=where)
    zones = read_zones(policy.camera, folder) if policy.camera else b""
    return compile_policy(policy, Dictionary([folder / name for name in policy.dbc]), zones)


def read_zones(camera: CameraText, folder: Path) -> bytes:
    """Return the sealed zones that a camera clause names, b"" if it names none.

    Raises:
        PolicyError: no such file, too large, or not sealed.
    """
    if not camera.zones_file:
        return b""
    path = folder / camera.zones_file
    try:
        sealed = read_plain(path, MAX_ZONES_BYTES)
    except OSError as error:
        raise PolicyError(
            f"cannot read the zones {path.name}: {error.strerror}", where=camera.zones_where
        ) from None
    if not sealed.startswith(ZONES_MAGIC):
        raise PolicyError(
            f"{path.name} is not sealed; a list of protected places must not travel in the clear",
            where=camera.zones_where, todo="`inland station zones seal` seals it",
        )  # fmt: skip
    if len(sealed) > MAX_ZONES_BYTES:
        raise PolicyError(f"{path.name} is too large", where=camera.zones_where,
                          todo=f"at most {MAX_ZONES_BYTES} bytes; name fewer corners")  # fmt: skip
    return sealed


def compile_policy(policy: PolicyText, dictionary: Dictionary, zones: bytes = b"") -> bytes:
    """Return the compiled bytes of a checked text.

    Args:
        policy: the text.
        dictionary: all signals of its DBC files.
        zones: sealed, b"" if it names none.

    Raises:
        PolicyError: a signal is unknown or ambiguous, or the policy is too large.
    """
    numbers = Numbers(dictionary)
    wire = policy_pb2.Policy(
        name=policy.name, version=policy.version, region=policy.region,
        not_after_unix=policy.not_after_unix, contact=policy.contact,
        consent=[
            policy_pb2.ConsentTerm(
                category=one.category, max_days=one.max_days, each_drive=one.each_drive
            )
            for one in policy.consents
        ],
    )  # fmt: skip
    _add_clauses(wire, policy, numbers, zones)
    _check_places(policy, numbers)
    if len(numbers) > MAX_SIGNALS:
        raise PolicyError(f"{len(numbers)} signals", where=policy.dbc_where,
                          todo=f"at most {MAX_SIGNALS}")  # fmt: skip
    words = policy_pb2.Dictionary(signal=[signal_of(found) for found in numbers.found])
    wire.dictionary = _stable(words)
    wire.decode.extend(decode_of(found) for found in numbers.found)
    data = _stable(wire)
    if len(data) > MAX_BYTES:
        raise PolicyError(
            f"the compiled policy has {len(data)} bytes", where=policy.dbc_where,
            todo=f"at most {MAX_BYTES}; name fewer signals",
        )  # fmt: skip
    read_policy(data)
    return data


def _add_clauses(
    wire: policy_pb2.Policy, policy: PolicyText, numbers: Numbers, zones: bytes
) -> None:
    """Add all that names signals or frames; signals are numbered as they are first named."""
    mistakes = Mistakes()
    for rule in policy.rules:
        with mistakes.apart():
            wire.collect.append(_collect(rule, numbers))
    for event in policy.events:
        with mistakes.apart():
            wire.event.append(event_of(event, numbers))
    if policy.recorder is not None:
        wire.recorder.CopyFrom(recorder_of(policy.recorder))
    if policy.camera is not None:
        with mistakes.apart():
            wire.camera.CopyFrom(camera_of(policy.camera, numbers, zones))
    if policy.driving is not None:
        with mistakes.apart():
            wire.driving.CopyFrom(condition_of(policy.driving, numbers))
    mistakes.end()


def _check_places(policy: PolicyText, numbers: Numbers) -> None:
    """Refuse what would keep a place under another name than a place's, where it is named."""
    named = [name for rule in policy.rules if is_place(rule.category) for name in rule.signals]
    places = {numbers.find(name)[0] for name in named if is_degrees(numbers.find(name)[1].unit)}
    if policy.camera is not None and (position := policy.camera.position) is not None:
        places |= {numbers.find(name)[0] for name in (position.latitude, position.longitude)}
    kept = [name for rule in policy.rules if not is_place(rule.category) for name in rule.signals]
    for event in policy.events:
        kept += [*(name for _, name in event.when.names), *event.snapshot]
    for name in kept:
        if numbers.find(name)[0] in places:
            wrong = place_objection(name.name)
            raise PolicyError(wrong.text, where=name.where, todo=wrong.todo)


def _stable(message: Message) -> bytes:
    # Map fields (choices) have no order of their own; deterministic sorts them.
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _collect(rule: RuleText, numbers: Numbers) -> policy_pb2.Collect:
    return policy_pb2.Collect(
        id=rule.id, category=rule.category, purpose=rule.purpose, basis=rule.basis,
        necessity=rule.necessity,
        recipients=sealed_pb2.Recipients.Name(rule.recipients),
        lane=sealed_pb2.Lane.Name(rule.lane),
        keep_s=rule.keep_s, frames=frames_of(rule.frames), signals=_signals(rule, numbers),
        every_ns=rule.every_ns, on_change=rule.on_change,
        resolution_ns=rule.resolution_ns, order=rule.order, flush_ns=rule.flush_ns,
        space_m=rule.space_m,
    )  # fmt: skip


def _signals(rule: RuleText, numbers: Numbers) -> list[policy_pb2.SignalSelector]:
    """Return what a rule names, each rounded as its precision asks for."""
    needed = must_be_coarse(rule.category, rule.recipients)
    selectors = [
        selector_of(name, numbers, grain=_grain(name, numbers, rule.space_m, needed=needed))
        for name in rule.signals
    ]
    if rule.space_m and not any(one.grain for one in selectors):
        raise PolicyError(
            f"rule '{rule.id}' has 'precision' in space, but none of its signals is in degrees",
            where=rule.signals[0].where, todo="name the coordinates, or take 'space' out",
        )  # fmt: skip
    return selectors


def _grain(name: SignalName, numbers: Numbers, space_m: int, *, needed: bool) -> int:
    try:
        return grain(numbers.find(name)[1], space_m, needed=needed)
    except ValueError as error:
        raise PolicyError(str(error), where=name.where) from None
