"""The generator of lean modules: descriptors in, Python text out. Needs the `dev` extra; never imported at run time.

- `descriptors`: protoc's descriptor set, reduced to what a lean module says (packages, messages, fields, methods).
- `fields`: the Python text that declares, writes and reads one field, by kind of field.
- `modules`: the text of the modules (`.py`), and which packages have one.
- `stubs`: the text of their types and documentation (`.pyi`).
"""
