"""Verifies archives, checkpoints and proofs of a Cloacina log, with nothing but Python's standard library.

It shares no code with the programs that write them: it was written from store/FORMAT.md, RFC 9162 and RFC 8032, so it
also checks those documents. It is slow, and short enough to be read.

    python verify.py archive FILE.cloaca ...
    python verify.py checkpoint FILE ... [--key HEX]
    python verify.py proof FILE ... [--checkpoint FILE] [--key HEX]

Prints a line for each file. Exit codes: 0 all are valid, 1 at least one is not, 2 usage.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import struct
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Invalid(Exception):
    """The file is not valid."""


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def unhex(text: str, length: int | None = None) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not hex") from error
    if length is not None and len(value) != length:
        raise Invalid(f"{text!r} is not {length} bytes")
    return value


# --- Sealed records: FORMAT.md, "What is hashed" ---


def commitment(salt: bytes, body: bytes) -> bytes:
    return sha256(b"\x01", salt, body)


def record_hash(
    kind: int, stream: bytes, seq: int, position: int, time: int, previous: bytes, committed: bytes
) -> bytes:
    fields = struct.pack(">BBB16sQQq", 2, 1, kind, stream, seq, position, time)
    return sha256(fields, previous, committed)


# --- Archives: FORMAT.md, "An archive" ---

LONGEST_SECTION = 256 * 1024 * 1024


class Reader:
    """Reads bytes from the front, and never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise Invalid(f"truncated at byte {self.at}: {count} bytes are needed")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout: str) -> int:
        value: int = struct.unpack(">" + layout, self.take(struct.calcsize(">" + layout)))[0]
        return value

    def counted(self) -> bytes:
        return self.take(self.number("I"))

    def flag(self) -> bool:
        value = self.number("B")
        if value > 1:
            raise Invalid(f"a flag is {value}")
        return value == 1

    def end(self) -> None:
        if self.at != len(self.data):
            raise Invalid(f"{len(self.data) - self.at} bytes are left over")


@dataclass
class Stream:
    """A stream of an archive: its entry, and its records so far."""

    stream: bytes
    kind: int
    records: int
    size: int
    head: bytes
    found: int = 0
    found_size: int = 0
    found_head: bytes = bytes(32)
    position: int = -1
    erased: set[int] | None = None
    told_erased: set[int] | None = None

    def name(self) -> str:
        return str(uuid.UUID(bytes=self.stream))

    def check(self) -> None:
        said = (self.records, self.size, self.head)
        if said != (self.found, self.found_size, self.found_head):
            raise Invalid(
                f"{self.name()}: its entry has {self.records} records, found {self.found}, or its head differs"
            )
        extra = (self.told_erased or set()) - (self.erased or set())
        if extra:
            raise Invalid(f"{self.name()}: seq {min(extra)} has an erasure, but its body is present")


def take_stream(section: Reader) -> Stream:
    stream, kind, _open = section.take(16), section.number("B"), section.flag()
    section.take(16)
    records, size, head = section.number("Q"), section.number("Q"), section.take(32)
    label = section.counted()
    if kind > 3 or len(label) > 3_072:
        raise Invalid(f"invalid stream entry: kind {kind}, label of {len(label)} bytes")
    return Stream(stream, kind, records, size, head, erased=set(), told_erased=set())


def take_records(section: Reader, stream: Stream) -> None:
    first, count = section.number("Q"), section.number("I")
    if first != stream.found or count == 0:
        raise Invalid(f"{stream.name()}: it continues at seq {first}, expected seq {stream.found}")
    for seq in range(first, first + count):
        position, time, stored = section.number("Q"), section.number("q"), section.take(32)
        if section.flag():
            committed, length = section.take(32), section.number("I")
            if stream.erased is not None:
                stream.erased.add(seq)
        else:
            salt, body = section.take(16), section.counted()
            committed, length = commitment(salt, body), len(body)
        computed = record_hash(stream.kind, stream.stream, seq, position, time, stream.found_head, committed)
        if computed != stored:
            raise Invalid(
                f"{stream.name()}: the record at seq {seq} has hash {stored.hex()}, computed {computed.hex()}"
            )
        if position <= stream.position:
            raise Invalid(f"{stream.name()}: positions decrease at seq {seq}")
        stream.position, stream.found_head = position, stored
        stream.found, stream.found_size = seq + 1, stream.found_size + length


def verify_archive(data: bytes) -> str:
    file = Reader(data)
    if file.take(19) != b"cloacina-archive 1\n":
        raise Invalid("its first line is not `cloacina-archive 1`")
    streams: dict[bytes, Stream] = {}
    current: Stream | None = None
    first = True
    while True:
        tag, length = file.take(1), file.number("I")
        if length > LONGEST_SECTION:
            raise Invalid(f"a section of {length} bytes")
        section = Reader(file.take(length))
        if first != (tag == b"H"):
            raise Invalid("the header must be the first section, and appear once")
        if tag == b"H":
            section.take(8 + 8 + 32)
            section.counted()
            section.counted()
        elif tag == b"D":
            fingerprint = section.take(32)
            if sha256(section.take(length - 32)) != fingerprint:
                raise Invalid(f"the definition {fingerprint.hex()} does not match its fingerprint")
        elif tag in (b"S", b"Z"):
            if current is not None:
                current.check()
            if tag == b"Z":
                break
            current = take_stream(section)
            if current.stream in streams:
                raise Invalid(f"{current.name()} appears twice")
            streams[current.stream] = current
        elif tag == b"E" and current is not None and current.told_erased is not None:
            current.told_erased.add(section.number("Q"))
            section.take(8)
            section.counted(), section.counted(), section.counted()
        elif tag == b"R" and current is not None:
            take_records(section, current)
        else:
            raise Invalid(f"section {tag!r} is unknown, or outside of a stream")
        section.end()
        first = False
    counts = (section.number("I"), section.number("Q"))
    digest = section.take(32)
    section.end()
    file.end()
    if sha256(data[:-32]) != digest:
        raise Invalid("the digest does not match the content")
    records = sum(stream.found for stream in streams.values())
    if counts != (len(streams), records):
        raise Invalid(f"it announces {counts[0]} streams and {counts[1]} records, found {len(streams)} and {records}")
    return f"{len(streams)} streams, {records} records, digest {digest.hex()}"


# --- The tree: RFC 9162, section 2.1 ---


def leaf(record: bytes) -> bytes:
    return sha256(b"\x00", record)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01", left, right)


def split(size: int) -> int:
    """Returns the largest power of two below a size."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_root(index: int, size: int, hash_: bytes, path: list[bytes]) -> bytes:
    """Returns the root that a path leads to, by the recursive definition of PATH."""
    if size == 1:
        if path:
            raise Invalid("the path is too long")
        return hash_
    if not path:
        raise Invalid("the path is too short")
    middle = split(size)
    if index < middle:
        return node(inclusion_root(index, middle, hash_, path[:-1]), path[-1])
    return node(path[-1], inclusion_root(index - middle, size - middle, hash_, path[:-1]))


def consistency_roots(old: int, size: int, whole: bool, root: bytes, path: list[bytes]) -> tuple[bytes, bytes]:
    """Returns the roots of the old and the new tree, by the recursive definition of SUBPROOF."""
    if old == size:
        if whole:
            if path:
                raise Invalid("the path is too long")
            return root, root
        if len(path) != 1:
            raise Invalid("the path has the wrong length")
        return path[0], path[0]
    if not path:
        raise Invalid("the path is too short")
    middle = split(size)
    if old <= middle:
        left_old, left_new = consistency_roots(old, middle, whole, root, path[:-1])
        return left_old, node(left_new, path[-1])
    right_old, right_new = consistency_roots(old - middle, size - middle, False, root, path[:-1])
    return node(path[-1], right_old), node(path[-1], right_new)


# --- Signatures: RFC 8032, Ed25519 ---

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int, int, int]


def add(left: Point, right: Point) -> Point:
    a = (left[1] - left[0]) * (right[1] - right[0]) % P
    b = (left[1] + left[0]) * (right[1] + right[0]) % P
    c = 2 * left[3] * right[3] * D % P
    d = 2 * left[2] * right[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def same(left: Point, right: Point) -> bool:
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def decompress(text: bytes) -> Point:
    y = int.from_bytes(text, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        raise Invalid("a point is not on the curve")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        raise Invalid("a point is not on the curve")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        public, commit = decompress(key), decompress(signature[:32])
    except Invalid:
        return False
    response = int.from_bytes(signature[32:], "little")
    if response >= ORDER or same(times(8, public), (0, 1, 1, 0)) or same(times(8, commit), (0, 1, 1, 0)):
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    return same(times(response, BASE), add(commit, times(challenge, public)))


# --- Checkpoints and proofs ---


@dataclass
class Checkpoint:
    """A checkpoint with a valid signature."""

    log: bytes
    size: int
    root: bytes
    time: int
    key: bytes


def read_checkpoint(text: str, key: str | None = None) -> Checkpoint:
    lines = text.split("\n")
    names = ["log", "size", "root", "time", "key", "signature"]
    if len(lines) != 8 or lines[0] != "cloacina-checkpoint 1" or lines[7]:
        raise Invalid("not a checkpoint of format 1")
    values = []
    for name, line in zip(names, lines[1:], strict=False):
        found, space, value = line.partition(" ")
        if found != name or not space:
            raise Invalid(f"the line of `{name}` is missing")
        values.append(value)
    log, size, root, time, public, signature = values
    statement = "".join(line + "\n" for line in lines[:5]).encode()
    if not is_signed(unhex(public, 32), statement, unhex(signature, 64)):
        raise Invalid("the signature of the checkpoint is invalid")
    if key is not None and key.lower() != public.lower():
        raise Invalid(f"the checkpoint was signed with the key {public}, not with {key}")
    if not size.isdigit() or str(int(size)) != size or str(int(time)) != time:
        raise Invalid(f"invalid size {size!r} or time {time!r}")
    if any(value != value.lower() or not value.isalnum() for value in (log, root, public, signature)):
        raise Invalid("the bytes of a checkpoint must be in lower-case hex")
    return Checkpoint(unhex(log, 32), int(size), unhex(root, 32), int(time), unhex(public, 32))


def micros(text: str) -> int:
    if text.endswith(" us"):
        return int(text[:-3])
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return since // datetime.timedelta(microseconds=1)


def check_record(record: dict[str, object]) -> tuple[int, bytes]:
    """Checks the hash of a record; returns its position and its hash."""
    text = {name: str(value) for name, value in record.items()}
    stream = uuid.UUID(text["stream"]).bytes
    kind, seq, position = int(text["stream_kind"]), int(text["seq"]), int(text["position"])
    previous, committed = unhex(text["previous"], 32), unhex(text["commitment"], 32)
    if ("salt" in text) != ("body" in text):
        raise Invalid("its record has a salt without a body, or a body without a salt")
    if "salt" in text and commitment(unhex(text["salt"], 16), unhex(text["body"])) != committed:
        raise Invalid("the body does not match the commitment")
    computed = record_hash(kind, stream, seq, position, micros(text["time"]), previous, committed)
    if computed != unhex(text["hash"], 32):
        raise Invalid(f"the computed hash of the record is {computed.hex()}")
    return position, computed


def unwrapped(found: Any) -> Any:
    """Returns the proof itself, unwrapped from the output of `replay prove --json` if necessary."""
    around = found["format"] == "cloaca.replay/1" and found["what"] == "proof"
    return found["proof"] if around else found


def verify_proof(text: str, kept: Checkpoint | None, key: str | None) -> str:
    try:
        proof = unwrapped(json.loads(text))
        if proof["format"] != "cloaca.proof/1":
            raise Invalid(f"unknown format {proof['format']!r}")
        checkpoint = read_checkpoint(proof["checkpoint"], key)
        path = [unhex(part, 32) for part in proof["path"]]
        if proof["kind"] == "inclusion":
            position, hash_ = check_record(proof["record"])
            if position >= checkpoint.size:
                raise Invalid("the record is not covered by the checkpoint")
            if inclusion_root(position, checkpoint.size, leaf(hash_), path) != checkpoint.root:
                raise Invalid("its path does not lead to the root of the checkpoint")
            shows = f"the record at position {position} is among the first {checkpoint.size}"
        elif proof["kind"] == "consistency":
            since = read_checkpoint(proof["since"])
            if since.log != checkpoint.log or not 0 < since.size <= checkpoint.size:
                raise Invalid("its checkpoints are from different logs, or not in order")
            roots = consistency_roots(since.size, checkpoint.size, True, since.root, path)
            if roots != (since.root, checkpoint.root):
                raise Invalid("the newer checkpoint does not extend the older one")
            shows = f"the log of {checkpoint.size} records extends that of {since.size}"
        else:
            raise Invalid(f"unknown kind {proof['kind']!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"not a proof: {error!r}") from error
    if kept is not None and (kept.log, kept.size, kept.root) != (checkpoint.log, checkpoint.size, checkpoint.root):
        raise Invalid("the proof uses another checkpoint than --checkpoint")
    return shows


def verify_file(what: str, file: Path, kept: Path | None, key: str | None) -> str:
    if what == "archive":
        return verify_archive(file.read_bytes())
    if what == "checkpoint":
        found = read_checkpoint(file.read_text(), key)
        return f"{found.size} records, root {found.root.hex()}"
    return verify_proof(file.read_text(), read_checkpoint(kept.read_text(), key) if kept else None, key)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Verifies archives, checkpoints and proofs of a Cloacina log.")
    parser.add_argument("what", choices=["archive", "checkpoint", "proof"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--checkpoint", type=Path, help="a trusted checkpoint that the proof must use")
    parser.add_argument("--key", help="the public key of the signature, in hex")
    chosen = parser.parse_args(arguments)
    all_hold = True
    for file in chosen.files:
        try:
            print(f"ok: {file}: {verify_file(chosen.what, file, chosen.checkpoint, chosen.key)}")
        except (Invalid, OSError, UnicodeDecodeError) as error:
            print(f"bad: {file}: {error}")
            all_hold = False
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
