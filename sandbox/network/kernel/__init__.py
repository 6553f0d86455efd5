"""What the worker does in the pod's namespace: scan it, make taps and macvtaps there, redirect and limit."""
