"""How directories of the host reach the guest: one module per way, all behind one interface.

way         one of Kata's `shared_fs`: `virtio-fs` (virtiofs), `virtio-9p` (ninep), `none` (copying)
plan        what a way adds to the VM and to CreateSandbox, as plain values; makes the share (`plan.SharingPlan`)
share       the way at work for one pod: root file systems and volumes come and go (`share.Share`)
directory   what a way that mounts shows to the guest: the host's files, bound below one directory
tree        what a way that copies sends: a directory as pieces, each one CopyFile call
versioned   a volume as Kubernetes makes it of a ConfigMap or Secret: changed by moving the link `..data`
"""
