"""Every RPC of Perron, read from the descriptors: a test over RPCS covers the next RPC by itself."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from buf.validate import validate_pb2
from perron.api.common.v1 import access_pb2
from perron.cli.listening import SERVICES
from perron.cli.suite import STORES

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "gen" / "python"


@dataclass(frozen=True)
class Rpc:
    """One RPC as one service serves it."""

    host: str
    service: str
    method: MethodDescriptor

    def __str__(self) -> str:
        shared = f"@{self.host}" if self.service.startswith("perron.api.common.") else ""
        return f"{self.service.rsplit('.', 1)[-1]}.{self.method.name}{shared}"

    @property
    def path(self) -> str:
        """How it goes over the wire."""
        return f"/{self.service}/{self.method.name}"

    @property
    def name(self) -> str:
        """Its short name."""
        return self.method.name

    @property
    def input(self) -> Descriptor:
        """What it takes."""
        return self.method.input_type

    @property
    def request(self) -> type[Message]:
        """The class of what it takes."""
        return message_factory.GetMessageClass(self.method.input_type)

    @property
    def response(self) -> type[Message]:
        """The class of what it answers."""
        return message_factory.GetMessageClass(self.method.output_type)

    @property
    def access(self) -> access_pb2.Access:
        """Who may call it."""
        return self.method.GetOptions().Extensions[access_pb2.access]

    @property
    def declares_access(self) -> bool:
        """Whether it says at all who may call it."""
        return self.method.GetOptions().HasExtension(access_pb2.access)

    @property
    def idempotent(self) -> bool:
        """Whether it declares that sending it again has one effect."""
        return self.method.GetOptions().Extensions[access_pb2.idempotent]

    @property
    def streams(self) -> bool:
        """Whether it answers in pieces."""
        return self.method.server_streaming

    @property
    def batch_item(self) -> Descriptor | None:
        """The message of one item, of a batch."""
        items = self.input.fields_by_name.get("items")
        return items.message_type if self.name.startswith("Batch") and items is not None else None


def files() -> Iterator[FileDescriptorProto]:
    """The files of Perron's contract with their comments, from gen/descriptors.binpb."""
    content = (ROOT / "gen" / "descriptors.binpb").read_bytes()
    yield from (
        file for file in FileDescriptorSet.FromString(content).file if file.name.startswith("perron/")
    )


def rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """The form rules of a field."""
    found: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return found


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field holds a list or a map."""
    return bool(field.is_repeated)


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def messages_of(root: Descriptor, seen: set[str] | None = None) -> Iterator[Descriptor]:
    """A message and every one of Perron's that it can hold, each once."""
    seen = set() if seen is None else seen
    if root.full_name in seen or not root.full_name.startswith("perron."):
        return
    seen.add(root.full_name)
    if not root.GetOptions().map_entry:
        yield root
    for field in root.fields:
        if field.message_type is not None:
            yield from messages_of(field.message_type, seen)


def fields_of(root: Descriptor) -> Iterator[FieldDescriptor]:
    """Every field that can stand in a message, at any depth, each once."""
    for message in messages_of(root):
        yield from message.fields


def _load() -> list[Rpc]:
    for path in sorted((GENERATED / "perron").rglob("*_pb2.py")):
        importlib.import_module(".".join(path.relative_to(GENERATED).with_suffix("").parts))
    pool: Any = descriptor_pool.Default()
    found = []
    for file in files():
        for service in file.service:
            name = f"{file.package}.{service.name}"
            part = file.package.split(".")[2]
            hosts = STORES if part == "common" else (part,)  # what all services share, each store serves
            methods = pool.FindServiceByName(name).methods
            found += [Rpc(host, name, method) for method in methods for host in hosts]
    return found


_ALL = _load()

RPCS = [rpc for rpc in _ALL if rpc.host in SERVICES]
"""Every RPC with every service that serves it; a contract whose service is not there yet is left out."""

DECLARED = list({rpc.path: rpc for rpc in _ALL}.values())
"""Every RPC of the contract once, served or not."""
