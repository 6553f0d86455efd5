"""The Python text that declares, writes and reads one field of a lean message, by kind of field."""

from __future__ import annotations

from protos.lean import wire
from protos.lean.generator.descriptors import Field, UnsupportedError

# By kind: the function that turns a raw varint or the bytes of a field into the attribute's value.
_CONVERT = {
    "bool": "bool",
    "bytes": "bytes",
    "enum": "int32",
    "int32": "int32",
    "int64": "int64",
    "string": "bytes.decode",
    "uint32": "uint32",
    "uint64": "int",
}
_PUT = {
    "bool": "put_bool",
    "bytes": "put_bytes",
    "enum": "put_int32",
    "int32": "put_int32",
    "int64": "put_int64",
    "message": "put_message",
    "string": "put_text",
    "uint32": "put_uint32",
    "uint64": "put_uint64",
}
_ZERO = {"bool": "False", "bytes": 'b""', "string": '""'}
_LENGTH_KINDS = ("bytes", "message", "string")


class FieldText:
    """The texts of one field, as lines without indentation. `here` is the module they are for."""

    def __init__(self, field: Field, here: str) -> None:
        self._field = field
        self.name = field.name
        kind = field.map_kind or field.kind
        if kind not in _PUT:
            raise UnsupportedError(f"{field.name}: lean messages have no {kind} fields")
        self._kind = kind
        self._class = ""
        if field.message:
            same = field.message.module == here
            self._class = field.message.name if same else f"{field.message.module}.{field.message.name}"

    @property
    def default(self) -> str:
        """The default of the constructor's argument; None stands for a fresh container, too."""
        field = self._field
        if field.repeated or field.optional or field.kind in ("message", "map"):
            return "None"
        return _ZERO.get(field.kind, "0")

    def assign(self) -> str:
        """The constructor's statement."""
        fresh = "{}" if self._field.kind == "map" else "[]" if self._field.repeated else ""
        value = f"{fresh} if {self.name} is None else {self.name}" if fresh else self.name
        return f"self.{self.name} = {value}"

    def write(self) -> list[str]:
        """The statements that append the field to `out`, unless it is absent or zero."""
        attribute = f"self.{self.name}"
        if self._field.kind == "map":
            body = self._put("body", 2, "value")
            return [
                f"for key, value in {attribute}.items():",
                "    body = bytearray()",
                '    put_text(body, b"\\n", key)',
                f"    {body}",
                f"    put_bytes(out, {self._tag(wire.LENGTH)}, body)",
            ]
        if self._field.repeated and self._packed:
            return [
                f"if {attribute}:",
                "    body = bytearray()",
                f"    for value in {attribute}:",
                f'        {_PUT[self._kind]}(body, b"", value)',
                f"    put_bytes(out, {self._tag(wire.LENGTH)}, body)",
            ]
        if self._field.repeated:
            return [f"for value in each({attribute}):", f"    {self._put('out', self._field.number, 'value')}"]
        present = " is not None" if self._field.optional or self._kind == "message" else ""
        return [f"if {attribute}{present}:", f"    {self._put('out', self._field.number, attribute)}"]

    def read(self) -> list[tuple[int, str]]:
        """Each tag under which the field may arrive, with the statement that takes `value` in."""
        attribute, number = f"self.{self.name}", self._field.number << 3
        tag = number | self._wire_type
        if self._field.kind == "map":
            return [(number | wire.LENGTH, self._read_entry(attribute))]
        if self._kind == "message" and not self._field.repeated:
            return [(tag, f"{attribute} = merged({attribute}, {self._class}, value, budget)")]
        if not self._field.repeated:
            return [(tag, f"{attribute} = {self._value}")]
        if not self._packed:
            item = f"merged(None, {self._class}, value, budget)" if self._kind == "message" else self._value
            return [(tag, f"{attribute}.append({item})")]
        values = "packed(value)" if self._value == "value" else f"map({_CONVERT[self._kind]}, packed(value))"
        return [
            (number | wire.LENGTH, f"{attribute}.extend({values})"),
            (tag, f"{attribute}.append({self._value})"),
        ]

    @property
    def annotation(self) -> str:
        """The type of the attribute, for the stub."""
        single = {"bool": "bool", "bytes": "bytes", "string": "str", "message": self._class}.get(self._kind, "int")
        if self._field.kind == "map":
            return f"dict[str, {single}]"
        if self._field.repeated:
            return f"list[{single}]"
        return f"{single} | None" if self._field.optional or self._kind == "message" else single

    @property
    def parameter(self) -> str:
        """The constructor's parameter, for the stub."""
        optional = "" if self.annotation.endswith(" | None") or self.default != "None" else " | None"
        return f"{self.name}: {self.annotation}{optional} = ..."

    @property
    def _packed(self) -> bool:
        return self._kind not in _LENGTH_KINDS

    @property
    def _wire_type(self) -> int:
        return wire.LENGTH if self._kind in _LENGTH_KINDS else wire.VARINT

    @property
    def _value(self) -> str:
        """The expression for the attribute's value, where `value` is the raw one."""
        if self._kind in ("bytes", "uint64"):
            return "value"
        return "value.decode()" if self._kind == "string" else f"{_CONVERT[self._kind]}(value)"

    def _tag(self, wire_type: int, number: int | None = None) -> str:
        out = bytearray()
        wire.put_varint(out, (number or self._field.number) << 3 | wire_type)
        return repr(bytes(out))

    def _put(self, out: str, number: int, value: str) -> str:
        tag = self._tag(self._wire_type, number)
        expected = f"{self._class}, " if self._kind == "message" else ""
        return f"{_PUT[self._kind]}({out}, {tag}, {expected}{value})"

    def _read_entry(self, attribute: str) -> str:
        if self._kind == "message":
            return f"merge_entry({attribute}, {self._class}, value, budget)"
        tag = 2 << 3 | self._wire_type
        zero = _ZERO.get(self._kind, "0")
        return f"key, value = map_entry(value, {tag}, {_CONVERT[self._kind]}, {zero}); {attribute}[key] = value"
