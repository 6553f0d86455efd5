"""VMs that are not booted but restored from a template (`hypervisor.template`), and become a pod's.

`plan` says what a configuration asks for, `templates` finds and builds, `clone` is one restored VM on its way to a pod.
Imported only where `enable_template` is set.
"""
