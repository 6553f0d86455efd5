"""The operator's command, `kata-ctl`, and the metrics monitor.

It looks at pods from outside: at the journals in their run directories, at /proc, and through their management sockets.
So it works whatever state a pod's daemon is in, and a pod is never the worse for being looked at.
"""
