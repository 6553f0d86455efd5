"""The memory agent: gives idle memory of the guest back (MemAgentMemcgSet, MemAgentCompactSet; Kata's mem-agent).

Two jobs, each off until its settings say `disabled: false`, each done every `period_secs`, and neither while processes
have been waiting for memory (the kernel's PSI) for more than a share of the last period:

- *reclaim* ages the pages of each container's cgroup by the kernel's multi-generational LRU, and evicts the oldest
  generation of what has been aged often enough;
- *compaction* has the kernel move pages together when free memory is in pieces, so that whole huge pages are free,
  which is what free page reporting gives back to the host.

Parts: `settings` (values, bounds, Kata's defaults) - `pressure` (PSI) - `lru` (the kernel's debugfs file) - `reclaim`,
`compaction` (one turn of each job) - `schedule` (when).
"""
