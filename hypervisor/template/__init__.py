"""VM templates: one VM booted to "agent ready" and saved, from which any number is restored in place of a boot.

- *template*: a directory with `memory` (the guest's RAM), `state` (its devices, some 400 KB) and `manifest.json`.
- *store*: the directory of templates on tmpfs, with the lock under which one is built at a time.
- *key*: the digest of all that a template depends on; the name of its directory.
- *builder*: whoever boots and saves one; dies without a trace.
- *clone*: a VM restored from one. It maps the memory privately (pages are shared with other clones until it writes), or
  has a copy of its own, where a vhost-user daemon must map it too.
"""
