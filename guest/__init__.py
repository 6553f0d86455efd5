"""What runs inside the virtual machine: the agent, and the builder of kernel, initrd and image.

The agent (`guest.agent`) is the guest's first process; the image (`guest.image`) is made on the host and carries it.
"""
