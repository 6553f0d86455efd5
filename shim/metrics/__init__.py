"""A container's statistics: from the agent's message to the one that containerd expects on this host.

containerd's metrics collector takes `io.containerd.cgroups.v2.Metrics` on a host with the unified cgroup hierarchy
and `v1` on any other, whatever the guest has; the agent's message holds values under the guest kernel's names. Kata
does the same.
"""
