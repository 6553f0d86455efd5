"""What a pod may use, and how its VM follows.

- limits: CPUs and MiB of memory that a container may use; 0 where it sets no limit;
- demand: the limits of all containers of a pod;
- size: what the VM has, as vCPUs and MiB;
- pod cgroup: the host's cgroup in which the daemon and its helpers are counted, and held to the pod's limits.
"""
