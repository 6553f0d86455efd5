"""Storages: what is mounted or made in the guest before a container can use it.

One module per family of drivers, each with `attach` functions of one shape (`context.Attach`); `registry` names them
as Kata's protocol does, `table` counts who uses what. A new driver is one function and one line in `registry`.
"""
