"""Benchmarks of the shim beside its peers in the same run; `python -m bench` (or `make bench`) runs them all.

Glossary:

- *subject*: what is measured: our shim, containerd-shim-runc-v2, or a floor such as a bare QEMU.
- *series*: the samples of one subject; subjects take turns, so that a noisy machine is noisy for all.
- *outcome*: the series of one benchmark, what they compare to, and the bar it has to meet.

Absolute figures belong to the machine; ratios and differences within one run are what counts.
"""
