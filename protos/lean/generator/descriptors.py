"""protoc's descriptor set, reduced to what a lean module says, with Python's names in place of protobuf's.

Names are made by betterproto2's own functions, so that lean and rich messages agree in every name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from betterproto2_compiler.compile.naming import pythonize_class_name, pythonize_field_name, pythonize_method_name
from betterproto2_compiler.lib.google.protobuf import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FieldDescriptorProtoLabel,
    FieldDescriptorProtoType,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from betterproto2_compiler.plugin.models import EnumDefinitionCompiler, get_comment

Path = tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """A message class, by the module it is in."""

    module: str
    name: str


@dataclass(frozen=True)
class Field:
    """A field: `kind` is the protobuf type of its values ("enum", "message" or a scalar), or "map"."""

    name: str
    number: int
    kind: str
    comment: str
    repeated: bool = False
    optional: bool = False
    message: Reference | None = None
    map_kind: str = ""


@dataclass(frozen=True)
class Message:
    """A message type. Nested types are flattened: `Sandbox.Runtime` is `SandboxRuntime`."""

    name: str
    comment: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Enum:
    """An enum type, with (name, value, comment) of each member."""

    name: str
    comment: str
    members: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class Method:
    """A unary method of a service."""

    name: str
    route: str
    request: Reference
    reply: Reference
    comment: str


@dataclass(frozen=True)
class Service:
    """A service."""

    name: str
    comment: str
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Package:
    """All files of one protobuf package."""

    name: str
    sources: tuple[str, ...]
    messages: tuple[Message, ...]
    enums: tuple[Enum, ...]
    services: tuple[Service, ...]

    @property
    def module(self) -> str:
        """The name of the package's lean module."""
        return module_name(self.name)


class UnsupportedError(Exception):
    """The .proto files use a feature that lean modules do not have; names the field."""


def module_name(package: str) -> str:
    """The lean module of a protobuf package."""
    return package.replace(".", "_")


def load(descriptor_set: bytes, wanted: Sequence[str]) -> list[Package]:
    """The wanted packages of a serialized FileDescriptorSet (with source info, for the comments)."""
    files = FileDescriptorSet.parse(descriptor_set).file
    packages: dict[str, list[FileDescriptorProto]] = {}
    for file in sorted(files, key=lambda f: f.name):
        packages.setdefault(file.package, []).append(file)
    references = {full: ref for file in files for full, ref in _references(file)}
    return [_package(name, packages[name], references) for name in wanted]


def _package(name: str, files: list[FileDescriptorProto], references: dict[str, Reference]) -> Package:
    return Package(
        name,
        tuple(f.name for f in files),
        tuple(_Reader(f, references).message(m, n, p) for f in files for m, n, p in _messages(f)),
        tuple(_Reader(f, references).enum(e, n, p) for f in files for e, n, p in _enums(f)),
        tuple(_Reader(f, references).service(s, (6, i)) for f in files for i, s in enumerate(f.service)),
    )


def _messages(file: FileDescriptorProto) -> Iterator[tuple[DescriptorProto, str, Path]]:
    """Each message of a file with its dotted name and its path in the source info; map entries are left out."""

    def walk(messages: list[DescriptorProto], prefix: str, path: Path) -> Iterator[tuple[DescriptorProto, str, Path]]:
        for index, message in enumerate(messages):
            if message.options and message.options.map_entry:
                continue
            name = f"{prefix}{message.name}"
            yield message, name, (*path, index)
            yield from walk(message.nested_type, f"{name}.", (*path, index, 3))

    return walk(file.message_type, "", (4,))


def _enums(file: FileDescriptorProto) -> Iterator[tuple[EnumDescriptorProto, str, Path]]:
    """Each enum of a file with its dotted name and its path in the source info."""
    for index, enum in enumerate(file.enum_type):
        yield enum, enum.name, (5, index)
    for message, name, path in _messages(file):
        for index, enum in enumerate(message.enum_type):
            yield enum, f"{name}.{enum.name}", (*path, 4, index)


def _references(file: FileDescriptorProto) -> Iterator[tuple[str, Reference]]:
    for _, name, _ in _messages(file):
        yield f".{file.package}.{name}", Reference(module_name(file.package), pythonize_class_name(name))


class _Reader:
    """Reads the definitions of one file."""

    def __init__(self, file: FileDescriptorProto, references: dict[str, Reference]) -> None:
        self._file = file
        self._references = references

    def message(self, message: DescriptorProto, name: str, path: Path) -> Message:
        fields = (self._field(message, f, (*path, 2, i)) for i, f in enumerate(message.field))
        ordered = sorted(fields, key=lambda f: f.number)
        return Message(pythonize_class_name(name), self._comment(path), tuple(ordered))

    def enum(self, enum: EnumDescriptorProto, name: str, path: Path) -> Enum:
        compiled = EnumDefinitionCompiler(
            source_file=self._file,
            output_file=None,  # type: ignore[arg-type]
            prefixed_proto_name=name,
            proto_obj=enum,
            path=list(path),
        )
        members = tuple((e.name, e.value, e.comment) for e in compiled.entries)
        return Enum(compiled.py_name, compiled.comment, members)

    def service(self, service: ServiceDescriptorProto, path: Path) -> Service:
        prefix = f"/{self._file.package}.{service.name}/"
        methods = []
        for index, method in enumerate(service.method):
            if method.client_streaming or method.server_streaming:
                raise UnsupportedError(f"{prefix}{method.name} streams")
            request, reply = self._references[method.input_type], self._references[method.output_type]
            comment = self._comment((*path, 2, index))
            methods.append(Method(pythonize_method_name(method.name), prefix + method.name, request, reply, comment))
        return Service(pythonize_class_name(service.name), self._comment(path), tuple(methods))

    def _field(self, message: DescriptorProto, field: FieldDescriptorProto, path: Path) -> Field:
        name, comment = pythonize_field_name(field.name), self._comment(path)
        entry = next((n for n in message.nested_type if field.type_name.endswith(f".{message.name}.{n.name}")), None)
        if entry and entry.options and entry.options.map_entry:
            key, value = entry.field
            if _kind(key) != "string":
                raise UnsupportedError(f"{message.name}.{name}: map keys other than strings")
            reference = self._references.get(value.type_name)
            return Field(name, field.number, "map", comment, message=reference, map_kind=_kind(value))
        alone = field.oneof_index is None or [f.oneof_index for f in message.field].count(field.oneof_index) == 1
        if not alone:
            raise UnsupportedError(f"{message.name}.{name}: a oneof of several members")
        return Field(
            name,
            field.number,
            _kind(field),
            comment,
            repeated=field.label == FieldDescriptorProtoLabel.REPEATED,
            optional=field.oneof_index is not None,
            message=self._references.get(field.type_name),
        )

    def _comment(self, path: Path) -> str:
        return get_comment(self._file, list(path)).strip()


def _kind(field: FieldDescriptorProto) -> str:
    return str(FieldDescriptorProtoType(field.type).name).lower()
