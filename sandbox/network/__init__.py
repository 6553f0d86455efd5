"""The pod's network: what CNI made in the pod's network namespace, carried into the VM.

- namespace: the pod's, named by its spec; the VM's QEMU and everything else of ours stay in the host's;
- scan: what is in it at one moment: links, addresses, routes, neighbours;
- endpoint: a link that the VM gets, with the tap (or macvtap) through which it does;
- worker: a short-lived process inside the namespace, which scans, makes and removes things there;
- watch: tells that something in the namespace has changed.
- steering and forwarding: what connects to the namespace's loopback is connected to the guest's.

The plan is pure (`plan`, `messages`, `difference`); only `worker` and its `kernel_*` modules touch the namespace, and
`undo`, which takes back what they left, from the journal alone.
"""
