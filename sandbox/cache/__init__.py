"""VMs that wait, booted and paused, in the node's cache until a pod takes one.

- *server*: a process of its own (`kata-ctl cache start`) that keeps the pool full and answers Kata's `CacheService`;
- *pool*: the waiting VMs, the oldest first;
- *lease*: a VM between `GetBaseVM` and its hand-over: not claimed in time, it goes back into the pool;
- *hand-over*: the lease's descriptors and facts (`hypervisor.handover`) over a socket beside the service's;
- *client*: the pod's daemon; it speaks just as much HTTP/2 as the two calls take.

What the daemon loads (`client`, `received`, `calls`, `plan`) is apart from what the server does. Imported only where
`vm_cache_number` is not 0.
"""
